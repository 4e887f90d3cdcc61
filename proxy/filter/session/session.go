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
	"net/netip"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mallamesh/malla/base/pipe"
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
	a, ok := parseAddress(b)
	if !ok {
		return nowhere
	}
	return a
}

// parseAddress is pipe.ParseAddrPort, which keeps the text that it is given: addresses of IPv4, in the form that hosts have, are
// read without a copy of it.
func parseAddress(b []byte) (netip.AddrPort, bool) {
	var ip [4]byte
	rest := b
	for i := range ip {
		n, tail, ok := number(rest, 255)
		if !ok || len(tail) == 0 || tail[0] != "...:"[i] {
			return pipe.ParseAddrPort(string(b))
		}
		ip[i], rest = byte(n), tail[1:]
	}
	port, tail, ok := number(rest, 65535)
	if !ok || len(tail) > 0 {
		return pipe.ParseAddrPort(string(b))
	}
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(port)), true
}

// number reads a decimal number without leading zeros that is at most most, and returns what comes behind it.
func number(b []byte, most int) (n int, rest []byte, ok bool) {
	for i, c := range b {
		if c < '0' || c > '9' {
			return n, b[i:], i > 0
		}
		if n = 10*n + int(c-'0'); n > most || i > 0 && b[0] == '0' {
			return 0, nil, false
		}
	}
	return n, nil, len(b) > 0
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
	var text [64]byte
	address := host.AppendTo(text[:0])
	f.scratch = f.scratch[:0]
	if c.Cookie == "" {
		f.scratch = base64.StdEncoding.AppendEncode(f.scratch, address)
		m.SetNameCopy(c.Header, f.scratch)
		return stream.Continue
	}
	f.scratch = c.appendCookie(f.scratch, address, s.Worker.Loop.Wall())
	m.AddCopy(header.SetCookie, f.scratch)
	return stream.Continue
}

// appendCookie appends the cookie that names a host, with what is said of it.
func (c *Config) appendCookie(dst, address []byte, now time.Time) []byte {
	var room [96]byte
	message := append(binary.AppendUvarint(append(room[:0], tagAddress), uint64(len(address))), address...)
	if c.TTL > 0 {
		message = binary.AppendUvarint(append(message, tagExpires), uint64(now.Add(c.TTL).Unix()))
	}
	dst = append(append(dst, c.Cookie...), `="`...)
	dst = append(base64.StdEncoding.AppendEncode(dst, message), '"')
	return append(dst, c.After...)
}

// OnEnd forgets the stream.
func (f *filter) OnEnd(*stream.Stream) { f.used, f.wanted = nil, netip.AddrPort{} }
