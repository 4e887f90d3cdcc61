package probe

import (
	"context"
	"time"
)

// A Pace says when something is tried, and how often in a row it must end the same way to count.
type Pace struct {
	Delay, Period, Timeout time.Duration
	Successes, Failures    int
}

// WithDefaults fills in what is not said as Kubernetes does.
func (p Pace) WithDefaults() Pace {
	for _, d := range []struct {
		to *time.Duration
		is time.Duration
	}{{&p.Period, 10 * time.Second}, {&p.Timeout, time.Second}} {
		if *d.to <= 0 {
			*d.to = d.is
		}
	}
	for _, n := range []struct {
		to *int
		is int
	}{{&p.Successes, 1}, {&p.Failures, 3}} {
		if *n.to <= 0 {
			*n.to = n.is
		}
	}
	return p
}

// Watch tries until ctx ends. It calls tell when enough tries in a row have ended well, with nil, and when enough have
// not, with the last trouble: at first, and then whenever that is another answer than before.
func Watch(ctx context.Context, p Pace, try func(context.Context) error, tell func(trouble error)) {
	p = p.WithDefaults()
	if !sleep(ctx, p.Delay) {
		return
	}
	good, bad := 0, 0
	told, well := false, false
	for {
		err := once(ctx, p.Timeout, try)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			good, bad = good+1, 0
		} else {
			good, bad = 0, bad+1
		}
		switch {
		case err == nil && good >= p.Successes && (!told || !well):
			told, well = true, true
			tell(nil)
		case err != nil && bad >= p.Failures && (!told || well):
			told, well = true, false
			tell(err)
		}
		if !sleep(ctx, p.Period) {
			return
		}
	}
}

func once(ctx context.Context, timeout time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return try(ctx)
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
