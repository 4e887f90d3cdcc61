package adaptiveconcurrency

import "sync/atomic"

// A histogram counts latencies in microseconds, to two decimal digits as Envoy's does. Any goroutine may record.
type histogram struct {
	total atomic.Uint32
	bins  [numBins]atomic.Uint32
}

const (
	exact   = 100 // below, each value has a bin
	decades = 8   // above: up to 10^10, three hours
	numBins = exact + 90*decades
)

// binOf is the bin of a value.
func binOf(us int64) int {
	if us < exact {
		return int(max(us, 0))
	}
	decade := 0
	for us >= exact {
		us /= 10
		decade++
	}
	if decade > decades {
		return numBins - 1
	}
	return exact + (decade-1)*90 + int(us) - 10
}

// span is where a bin begins, and how wide it is.
func span(bin int) (from, width float64) {
	switch {
	case bin == 0:
		return 0, 0
	case bin < 10:
		return float64(bin), 0.1
	case bin < exact:
		return float64(bin), 1
	}
	width = 10
	for range (bin - exact) / 90 {
		width *= 10
	}
	return float64((bin-exact)%90+10) * width, width
}

func (h *histogram) record(us int64) {
	h.bins[binOf(us)].Add(1)
	h.total.Add(1)
}

func (h *histogram) count() int { return int(h.total.Load()) }

func (h *histogram) clear() {
	h.total.Store(0)
	for i := range h.bins {
		h.bins[i].Store(0)
	}
}

// quantile is the value below which a part of what was recorded lies.
func (h *histogram) quantile(part float64) int64 {
	want, seen := part*float64(h.count()), 0.0
	last := 0
	for i := range h.bins {
		n := float64(h.bins[i].Load())
		if n == 0 {
			continue
		}
		last = i
		if seen+n >= want {
			from, width := span(i)
			return int64(from + width*(want-seen)/n)
		}
		seen += n
	}
	from, width := span(last)
	return int64(from + width)
}
