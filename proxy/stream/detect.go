package stream

import (
	"bytes"
	"net/netip"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/header"
)

// A Detector finds out who a client is (original_ip_detection_extensions): by a header of its own, or by
// x-forwarded-for.
type Detector struct {
	Header  []byte // lower case; nil: x-forwarded-for
	Reject  int    // the status of the answer if the header tells no address; 0: it is asked no further
	Trusted bool   // what the header tells may be an internal address

	Hops       int            // proxies in front whose word counts
	Proxies    []netip.Prefix // or: the proxies whose word counts
	SkipAppend bool           // the peer's address is not added to x-forwarded-for
}

// detect asks the detectors in turn who the client is. ok is false if the request has been answered.
func (s *Stream) detect() (found netip.Addr, trusted, ok bool) {
	for i := range s.Config.Detectors {
		d := &s.Config.Detectors[i]
		xff := s.Request.Get(header.XForwardedFor)
		if d.Header == nil {
			found, trusted = d.forwarded(xff, s.Conn.Remote.Addr())
		} else if a, ok := pipe.ParseAddr(string(s.Request.Lookup(d.Header))); ok {
			found, trusted = a, d.Trusted
		} else if d.Reject != 0 {
			if st := s.Config.Stats; st != nil {
				st.DownstreamRqRejectedViaIPDetection.Inc()
			}
			s.Reply(d.Reject, "", "rejecting_because_detection_failed")
			return found, false, false
		}
		if !d.SkipAppend && s.Conn.Remote.IsValid() {
			s.Request.SetCopy(header.XForwardedFor, s.appendForwarded(xff))
		}
		if found.IsValid() {
			return found, trusted, true
		}
	}
	return s.Conn.Remote.Addr(), false, true
}

// forwarded is the address that x-forwarded-for tells, and whether it may be internal; the zero address if it
// tells none.
func (d *Detector) forwarded(xff []byte, peer netip.Addr) (netip.Addr, bool) {
	if d.Proxies == nil {
		a, only, ok := fromForwarded(xff, d.Hops)
		if !ok {
			return netip.Addr{}, false
		}
		return a, only
	}
	if !within(d.Proxies, peer) {
		return netip.Addr{}, false
	}
	var last netip.Addr
	for len(xff) > 0 {
		i := bytes.LastIndexByte(xff, ',')
		a, ok := pipe.ParseAddr(string(bytes.TrimSpace(xff[i+1:])))
		if !ok {
			return netip.Addr{}, false
		}
		if last = a; !within(d.Proxies, a) || i < 0 {
			break
		}
		xff = xff[:i]
	}
	return last, false
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}
