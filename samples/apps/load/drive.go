package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A result is what a run has seen. Code -1 stands for requests without an
// answer, as in fortio.
type result struct {
	URL         string             `json:"url"`
	Calls       int64              `json:"calls"`
	Seconds     float64            `json:"seconds"`
	QPS         float64            `json:"qps"`
	Codes       map[int]int64      `json:"codes"`
	Errors      map[string]int64   `json:"errors,omitempty"` // texts of code -1
	Sockets     int64              `json:"sockets"`
	Average     float64            `json:"averageSeconds"`
	Max         float64            `json:"maxSeconds"`
	Percentiles map[string]float64 `json:"percentilesSeconds"`
}

// maxErrors bounds the different texts that are kept.
const maxErrors = 20

// drive calls over o.connections goroutines. Request k is due at k/qps after the
// start, whoever is free makes it: a slow answer delays its own connection, and
// the rate is caught up by the others.
func drive(ctx context.Context, o *options, call func(context.Context) (int, error)) *result {
	stop := ctx
	if o.calls == 0 && o.duration > 0 {
		var cancel context.CancelFunc
		stop, cancel = context.WithTimeout(ctx, o.duration)
		defer cancel()
	}
	var next atomic.Int64
	var mu sync.Mutex
	r := &result{Codes: map[int]int64{}, Errors: map[string]int64{}, Percentiles: map[string]float64{}}
	var times histogram // guarded by mu, as r
	start := time.Now()
	var all sync.WaitGroup
	for range o.connections {
		all.Go(func() {
			for {
				k := next.Add(1) - 1
				if o.calls > 0 && k >= o.calls || !due(stop, start, k, o.qps) {
					return
				}
				began := time.Now()
				code, err := call(ctx) // one that has begun is not broken off at the end of -t
				took := time.Since(began)
				if err != nil && ctx.Err() != nil {
					return // stopped by hand: not a failure of the other side
				}
				mu.Lock()
				r.add(code, err)
				times.add(took)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	r.Seconds = time.Since(start).Seconds()
	if r.Seconds > 0 {
		r.QPS = float64(r.Calls) / r.Seconds
	}
	r.Average, r.Max = times.average().Seconds(), times.max.Seconds()
	for _, p := range o.percentiles {
		r.Percentiles[fmt.Sprint(p)] = times.percentile(p).Seconds()
	}
	return r
}

// due waits for the moment of request k and reports whether to make it.
func due(ctx context.Context, start time.Time, k int64, qps float64) bool {
	if qps > 0 {
		at := start.Add(time.Duration(float64(k) / qps * float64(time.Second)))
		if end, ok := ctx.Deadline(); ok && !at.Before(end) {
			<-ctx.Done() // the run has its full length
			return false
		}
		wait := time.NewTimer(time.Until(at))
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

func (r *result) add(code int, err error) {
	r.Calls++
	if err == nil {
		r.Codes[code]++
		return
	}
	r.Codes[-1]++
	text := cause(err)
	if _, ok := r.Errors[text]; !ok && len(r.Errors) >= maxErrors {
		text = "other"
	}
	r.Errors[text]++
}

// cause is the innermost error's text: addresses and ports around it differ with
// each request.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

func (r *result) ok() int64 {
	n := int64(0)
	for code, count := range r.Codes {
		if code >= 200 && code < 300 {
			n += count
		}
	}
	return n
}

func (r *result) allOK() bool { return r.Calls > 0 && r.ok() == r.Calls }

func (r *result) print(w io.Writer, o *options) {
	if !o.quiet {
		fmt.Fprintf(w, "Ended after %.3fs : %d calls. qps=%.5g\n", r.Seconds, r.Calls, r.QPS)
		fmt.Fprintf(w, "Sockets used: %d (for perfect keepalive, would be %d)\n", r.Sockets, o.connections)
	}
	for _, p := range o.percentiles {
		fmt.Fprintf(w, "# target %v%% %.6g\n", p, r.Percentiles[fmt.Sprint(p)])
	}
	for _, text := range slices.Sorted(maps.Keys(r.Errors)) {
		fmt.Fprintf(w, "Error %d x %s\n", r.Errors[text], text)
	}
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		fmt.Fprintf(w, "Code %3d : %d (%.1f %%)\n", code, r.Codes[code], 100*float64(r.Codes[code])/float64(r.Calls))
	}
	fmt.Fprintf(w, "All done %d calls %.3f ms avg, %.1f qps\n", r.Calls, 1000*r.Average, r.QPS)
}

// A histogram counts durations in buckets that are 1/32 of their value wide.
type histogram struct {
	counts [64 * 32]int64
	n      int64
	sum    time.Duration
	max    time.Duration
}

func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 32 {
		return int(v)
	}
	shift := bits.Len64(v) - 6 // leaves 32 to 63
	return (shift+1)*32 + int(v>>shift) - 32
}

// upper is the largest duration of a bucket.
func upper(b int) time.Duration {
	if b < 32 {
		return time.Duration(b)
	}
	shift := b/32 - 1
	return time.Duration(((uint64(b%32)+33)<<shift - 1))
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

func (h *histogram) average() time.Duration {
	if h.n == 0 {
		return 0
	}
	return h.sum / time.Duration(h.n)
}

// percentile is the duration that p of 100 calls did not exceed.
func (h *histogram) percentile(p float64) time.Duration {
	left := int64(float64(h.n)*p/100 + 0.999999)
	for b, n := range h.counts {
		if left -= n; left <= 0 && h.n > 0 {
			return min(upper(b), h.max)
		}
	}
	return h.max
}
