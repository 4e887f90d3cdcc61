package fault

import (
	"cmp"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/route"
)

// A Share is a part of the requests: Numerator of Denominator.
type Share struct {
	Numerator, Denominator uint32
	Firm                   bool // no header of a request makes it smaller
}

// A Config says what to do to requests, and to which. It must not change.
type Config struct {
	Delay       time.Duration // 0: none, or as DelayHeader says
	DelayHeader bool          // only a request with the header x-envoy-fault-delay-request; it says how long, unless Delay does
	DelayShare  Share

	Status      int // of the answer; 0: none
	GRPCStatus  int // instead of Status, if HasGRPC
	HasGRPC     bool
	AbortHeader bool // only a request with the header x-envoy-fault-abort-request or -abort-grpc-request; it says with what, unless Status or GRPCStatus does
	AbortShare  Share
	Body        string // "": Envoy's

	Rate       uint64 // of response bodies, in KiB a second; 0: not limited
	RateHeader bool   // x-envoy-fault-throughput-response
	RateShare  Share

	Upstream  string // only requests to this cluster; "": all
	Headers   route.HeaderMatchers
	Nodes     []string // only requests of these downstream nodes; empty: all
	MaxActive *uint32  // nil: no limit

	Metadata metadata.Struct // that a request with a fault gets, below the filter's name
}

// Headers by which a request asks for faults.
var (
	delayHeader     = []byte("x-envoy-fault-delay-request")
	delayPercent    = []byte("x-envoy-fault-delay-request-percentage")
	abortHeader     = []byte("x-envoy-fault-abort-request")
	abortGRPCHeader = []byte("x-envoy-fault-abort-grpc-request")
	abortPercent    = []byte("x-envoy-fault-abort-request-percentage")
	rateHeader      = []byte("x-envoy-fault-throughput-response")
	ratePercent     = []byte("x-envoy-fault-throughput-response-percentage")
)

// number reads a header, and reports whether it holds a number.
func number(m *header.Map, name []byte) (uint64, bool) {
	v := m.Lookup(name)
	if v == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v), 10, 32)
	return n, err == nil
}

// delay is how long this request waits; 0: not at all.
func (c *Config) delay(m *header.Map) time.Duration {
	if !c.DelayHeader {
		return c.Delay
	}
	ms, ok := number(m, delayHeader)
	if ok && c.Delay > 0 {
		return c.Delay
	}
	return time.Duration(ms) * time.Millisecond
}

// rate is how fast this request's response is, in KiB a second; 0: as fast as it can be.
func (c *Config) rate(m *header.Map) uint64 {
	if !c.RateHeader {
		return c.Rate
	}
	n, _ := number(m, rateHeader)
	return n
}

// answer is what this request is answered with, if with anything. An HTTP status counts before one of gRPC's.
func (c *Config) answer(m *header.Map) (status, grpc int, ok bool) {
	if !c.AbortHeader {
		if c.HasGRPC {
			return 200, c.GRPCStatus, true
		}
		return c.Status, -1, c.Status != 0
	}
	if n, has := number(m, abortHeader); has && n >= 200 && n < 600 {
		return cmp.Or(c.Status, int(n)), -1, true
	}
	if n, has := number(m, abortGRPCHeader); has {
		if c.HasGRPC {
			return 200, c.GRPCStatus, true
		}
		return 200, int(n), true
	}
	return 0, 0, false
}

// lowered is the share that a request's header may make smaller.
func (s Share) lowered(byHeader bool, m *header.Map, name []byte) Share {
	if byHeader && !s.Firm {
		if n, ok := number(m, name); ok {
			s.Numerator = min(s.Numerator, uint32(n))
		}
	}
	return s
}

func (s Share) hit(random uint64) bool {
	return s.Denominator > 0 && random%uint64(s.Denominator) < uint64(s.Numerator)
}
