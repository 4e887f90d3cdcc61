package cluster

import (
	"time"

	"github.com/mallamesh/malla/proxy/header"
)

// How a request to a host has ended stands in two books: outlier detection's, and the host's own counters. What goes into
// which, and when, is Envoy's.

// Answered tells outlier detection of a response's head: what its code says, or the status of a gRPC call that is over already, or
// the cluster's own idea of an error, by which another code counts as 500, and one of 5xx that is none as 200.
func (c *Cluster) Answered(h *Host, code int, grpc bool, m *header.Map, now time.Time) {
	o := c.Outlier
	if o == nil {
		return
	}
	if grpc {
		if said, ok := header.GRPCAsHTTP(m); ok {
			code = said
		}
	}
	if o.IsError != nil {
		if bad := o.IsError(m); !bad {
			code = 200
		} else if code < 500 {
			code = 500
		}
	}
	c.Report(h, Result{Kind: Response, Code: code, Degraded: o.DetectDegraded && m.Has(header.XEnvoyDegraded)}, now)
}

// Count counts a response that goes to the client. It reports whether nothing is counted yet because it is the trailers of a
// gRPC call that tell (CountEnd).
func (s *State) Count(code int, grpc bool, m *header.Map, end bool) (untold bool) {
	switch {
	case code >= 500 && code <= 599:
		s.RqError.Inc()
	case !grpc:
		s.RqSuccess.Inc()
	case !end:
		return true
	default:
		s.CountEnd(m)
	}
	return false
}

// CountEnd counts a gRPC call that is over, by the headers that are to say how. A call that ends without is an error.
func (s *State) CountEnd(m *header.Map) {
	if m != nil {
		if code, ok := header.GRPCAsHTTP(m); ok && code < 500 {
			s.RqSuccess.Inc()
			return
		}
	}
	s.RqError.Inc()
}
