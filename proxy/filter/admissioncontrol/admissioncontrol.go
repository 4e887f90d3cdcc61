// Package admissioncontrol is the HTTP filter that answers a share of the requests itself while too many of them
// fail, so that what is behind can recover.
//
// Every shard looks at its own requests of the last seconds. The share grows with how many have failed
// beyond what a [Config] finds normal; what the filter has refused counts neither as one nor as the other.
package admissioncontrol

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config says which requests have failed, and what follows from it. It must not change.
type Config struct {
	Off        bool
	Window     time.Duration // whole seconds
	Aggression float64       // at least 1: more makes the share grow faster at first
	Normal     float64       // the part that succeeds, above which nothing is refused
	AtLeast    int           // requests a second, below which nothing is refused
	Most       float64       // share of requests that is refused
	HTTP       []Range       // of statuses that are successes
	GRPC       []int         // statuses that are successes
}

// A Range holds the statuses from Start to just below End.
type Range struct{ Start, End int }

func (c *Config) goodStatus(status int) bool {
	return slices.ContainsFunc(c.HTTP, func(r Range) bool { return r.Start <= status && status < r.End })
}

func (c *Config) goodGRPC(v []byte) bool {
	status, err := strconv.Atoi(string(v))
	return err == nil && slices.Contains(c.GRPC, status)
}

// share is how many of the requests are refused now.
func (c *Config) share(w *window) float64 {
	total := float64(w.requests)
	share := (total - float64(w.good)/c.Normal) / (total + 1)
	if share <= 0 {
		return 0
	}
	return min(math.Pow(share, 1/c.Aggression), c.Most)
}

type factory struct {
	name   string
	config *Config
	stats  *stats.AdmissionControl
}

// New returns the factory of filters with a name in the chain.
func New(name string, config *Config, s *stats.AdmissionControl) stream.Factory {
	return &factory{name, config, s}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(w *pool.Worker) any {
	return &filter{factory: f, window: w.Local(f, func() any { return &window{length: int64(f.config.Window)} }).(*window)}
}

// A filter handles one stream.
type filter struct {
	*factory
	*window
	counts  bool // this request does
	trailer bool // its response's trailers say how it went
}

// accuracy is how finely shares are told apart.
const accuracy = 10_000

// OnRequest refuses the request, if it falls on it.
func (f *filter) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	c := f.config
	if c.Off || s.Rec.HealthCheck {
		return stream.Continue
	}
	f.counts = true
	now := s.Worker.Loop.Now()
	if f.perSecond(now) < c.AtLeast {
		return stream.Continue
	}
	if f.advance(now); accuracy*c.share(f.window) <= float64(s.Worker.Random()%accuracy) {
		return stream.Continue
	}
	f.counts = false
	f.stats.Rejected.Inc()
	return s.Reply(503, "", "denied_by_admission_control")
}

// OnResponse counts the request, unless it is a call of which only the trailers tell how it went.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	switch {
	case !f.counts:
	case !header.IsGRPCResponse(m, s.ResponseEnds()):
		f.count(s, f.config.goodStatus(m.StatusCode()))
	case m.Has(header.GrpcStatus):
		f.count(s, f.config.goodGRPC(m.Get(header.GrpcStatus)))
	default:
		f.trailer = true
	}
	return stream.Continue
}

// OnRequestTrailers has nothing to do.
func (f *filter) OnRequestTrailers(*stream.Stream, *header.Map) stream.Verdict {
	return stream.Continue
}

// OnResponseTrailers counts a call.
func (f *filter) OnResponseTrailers(s *stream.Stream, m *header.Map) stream.Verdict {
	if f.trailer {
		f.count(s, f.config.goodGRPC(m.Get(header.GrpcStatus)))
	}
	return stream.Continue
}

func (f *filter) count(s *stream.Stream, good bool) {
	f.record(s.Worker.Loop.Now(), good)
	if good {
		f.stats.Success.Inc()
	} else {
		f.stats.Failure.Inc()
	}
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) { f.counts, f.trailer = false, false }
