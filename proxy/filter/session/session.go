// Package session is the HTTP filter stateful_session: a client stays with the host that it had first, which it
// names by a cookie or a field.
//
// What the client carries is the host's address, so nothing is kept here. A host that is gone, or not well, is
// replaced by another, unless the configuration is strict.
package session

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config is what one level says. It must not change.
type Config struct {
	Off    bool   // of a route
	Cookie string // name; empty: Header
	TTL    time.Duration
	Path   string
	After  string // what follows the value of a new cookie

	Header []byte // lower case

	Strict bool
	Status int // of the answer if the host is not there and Strict; 0: 503
}

type factory struct {
	name   string
	config *Config
	stats  *stats.StatefulSession // nil: nothing is counted
}

// New returns the factory of filters with a name in the chain. c is for routes without one of their own.
func New(name string, c *Config, s *stats.StatefulSession) stream.Factory {
	return &factory{name, c, s}
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{factory: f} }

type filter struct {
	*factory
	used    *Config // nil: none
	wanted  netip.AddrPort
	scratch []byte
}

// OnRequest asks for the host that the client names.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	c := f.config
	if own, ok := s.FilterConfig(f.name).(*Config); ok {
		c = own
	}
	if c.Off || c.Cookie == "" && len(c.Header) == 0 {
		return stream.Continue
	}
	if !c.covers(m.Get(header.Path)) {
		if f.stats != nil {
			f.stats.NoSession.Inc()
		}
		return stream.Continue
	}
	f.used = c
	f.wanted = f.named(m, s.Worker.Loop.Wall())
	if f.wanted.IsValid() {
		s.Host = stream.HostWish{Addr: f.wanted, Strict: c.Strict, Status: c.Status}
	}
	return stream.Continue
}

// covers reports whether the cookie is for a path (RFC 6265, section 5.1.4).
func (c *Config) covers(path []byte) bool {
	if c.Cookie == "" || c.Path == "" || c.Path == "/" {
		return true
	}
	if !bytes.HasPrefix(path, []byte(c.Path)) {
		return false
	}
	return c.Path[len(c.Path)-1] == '/' || len(path) == len(c.Path) || bytes.IndexByte([]byte("/?#"), path[len(c.Path)]) >= 0
}

// nowhere is the address of a host that is named by something that is no address: nobody has it.
var nowhere = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)

// named is the host that a request names, invalid if it names none.
func (f *filter) named(m *header.Map, now time.Time) netip.AddrPort {
	c := f.used
	v := m.Lookup(c.Header)
	if c.Cookie != "" {
		v, _ = route.Cookie(m, c.Cookie)
	}
	b, err := base64.StdEncoding.AppendDecode(f.scratch[:0], v)
	if f.scratch = b[:0]; err != nil {
		return netip.AddrPort{}
	}
	if c.Cookie != "" {
		if address, expires, ok := parseCookie(b); ok { // else it is one of old, an address and nothing else
			if expires > 0 && now.Unix() > expires {
				return netip.AddrPort{}
			}
			b = address
		}
	}
	if len(b) == 0 {
		return netip.AddrPort{}
	}
	a, err := netip.ParseAddrPort(string(b))
	if err != nil {
		return nowhere
	}
	return a
}

// parseCookie reads the message in a cookie: an address (field 1) and when it ends (field 2). Others are passed over.
func parseCookie(b []byte) (address []byte, expires int64, ok bool) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, 0, false
		}
		field := b[n:]
		size := protowire.ConsumeFieldValue(number, kind, field)
		if size < 0 {
			return nil, 0, false
		}
		switch {
		case number == 1 && kind == protowire.BytesType:
			address, _ = protowire.ConsumeBytes(field)
		case number == 2 && kind == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(field)
			expires = int64(v)
		}
		b = field[size:]
	}
	return address, expires, true
}

const (
	tagAddress = 1<<3 | 2
	tagExpires = 2 << 3
)

// OnResponse tells the client its host, if that is a new one.
func (f *filter) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	c := f.used
	host := s.Rec.UpstreamHost
	if c != nil && !host.IsValid() && c.Strict && f.wanted.IsValid() && f.stats != nil {
		f.stats.FailedClosed.Inc()
	}
	if c == nil || !host.IsValid() {
		return stream.Continue
	}
	if host == f.wanted {
		if f.stats != nil {
			f.stats.Routed.Inc()
		}
		return stream.Continue
	}
	if f.stats != nil && !c.Strict { // the first request of a client, too, as Envoy counts
		f.stats.FailedOpen.Inc()
	}
	address := host.AppendTo(nil)
	if c.Cookie == "" {
		m.SetNameCopy(c.Header, base64.StdEncoding.AppendEncode(nil, address))
		return stream.Continue
	}
	message := append(binary.AppendUvarint([]byte{tagAddress}, uint64(len(address))), address...)
	if c.TTL > 0 {
		message = binary.AppendUvarint(append(message, tagExpires), uint64(s.Worker.Loop.Wall().Add(c.TTL).Unix()))
	}
	m.AddCopy(header.SetCookie, fmt.Appendf(nil, "%s=\"%s\"%s", c.Cookie, base64.StdEncoding.EncodeToString(message), c.After))
	return stream.Continue
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) { f.used, f.wanted = nil, netip.AddrPort{} }
