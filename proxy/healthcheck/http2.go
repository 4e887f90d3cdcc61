package healthcheck

import (
	"encoding/binary"
	"net"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mallamesh/malla/proxy/h2"
	"github.com/mallamesh/malla/proxy/header"
)

// An http2 is a connection of HTTP/2, for HTTP and gRPC checks, with one stream at a time.
type http2 struct {
	c    net.Conn
	http *h2.Conn
	out  []byte
	in   []byte

	// Of the check in flight.
	a                 answer
	headers, trailers header.Map
	over              bool
	reset             bool
	leaving           bool // GOAWAY has come
}

func newHTTP2(c net.Conn) *http2 {
	start := time.Now()
	out := &http2{c: c}
	out.http = h2.NewClient(h2.NewShard(func() int64 { return int64(time.Since(start)) }), &h2.Options{}, out, out)
	return out
}

func (c *http2) net() net.Conn { return c.c }

// Room, End, Buffered and Full take the connection's output.
func (c *http2) Room(n int) []byte { return slices.Grow(c.out, n) }
func (c *http2) End(b []byte)      { c.out = b }
func (c *http2) Buffered() int     { return len(c.out) }
func (c *http2) Full() bool        { return false }

// OnStream and what follows hear of the connection and of the stream.
func (c *http2) OnStream(*h2.Stream) (h2.StreamHandler, *header.Map, *header.Map) {
	return c, &header.Map{}, &header.Map{}
}
func (c *http2) OnSettings()                 {}
func (c *http2) OnGoAway(h2.Code, []byte)    { c.leaving = true }
func (c *http2) OnClosed()                   {}
func (c *http2) OnHeld()                     {}
func (c *http2) OnDrained()                  {}
func (c *http2) OnReset(h2.Reset)            { c.over, c.reset = true, true }
func (c *http2) OnInformational(*header.Map) {}

// OnHeaders takes the response's head.
func (c *http2) OnHeaders(m *header.Map, end bool) {
	c.a.take(m.StatusCode(), m)
	c.over = c.over || end
}

// OnData takes a piece of the body.
func (c *http2) OnData(b []byte, end bool) {
	c.a.data(b)
	c.over = c.over || end
}

// OnTrailers ends the response.
func (c *http2) OnTrailers(m *header.Map) {
	if v := m.Get(header.GrpcStatus); v != nil {
		c.a.grpcStatus = string(v)
	}
	c.over = true
}

// check makes a request and waits for its end.
func (c *http2) check(s *session) (r result, again, stale bool) {
	c.over, c.reset, c.a = false, false, answer{}
	c.headers.Reset()
	c.trailers.Reset()
	stream := c.http.Open(c, &c.headers, &c.trailers)
	if stream == nil || c.leaving {
		return result{failure: Network}, false, true
	}
	var m header.Map
	web, _ := s.k.config.Probe.(*HTTP)
	if web != nil {
		request(&m, web, s)
		c.a.limit = web.BodyLimit
		if stream.SendHeaders(&m, web.Send == nil); web.Send != nil {
			stream.SendData(web.Send, true)
		}
	} else {
		p := s.k.config.Probe.(*GRPC)
		call(&m, p, s)
		c.a.limit = maxAnswer
		stream.SendHeaders(&m, false)
		stream.SendData(message(p.Service), true)
	}
	for left := 2 * maxAnswer; !c.over; {
		n, err := c.turn()
		if left -= n; err == nil && left < 0 {
			err = errTooMuch
		}
		if err != nil {
			return broken(err), false, c.a.status == 0 && !broken(err).timedOut()
		}
	}
	_ = c.flush()
	again = c.http.CanOpen() && !c.leaving
	switch {
	case c.reset:
		return result{failure: Network}, again, false
	case web != nil:
		return c.a.judge(s, web), again, false
	}
	return c.a.serving(), again, false
}

// turn writes what is to be written, and reads once.
func (c *http2) turn() (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	var b [16384]byte
	n, err := c.c.Read(b[:])
	if n == 0 && err != nil {
		return 0, err
	}
	c.in = append(c.in, b[:n]...)
	used, err := c.http.Feed(c.in)
	c.in = append(c.in[:0:0], c.in[used:]...)
	if err != nil {
		_ = c.flush() // the GOAWAY
	}
	return n, err
}

func (c *http2) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.c.Write(c.out)
	c.out = c.out[:0]
	return err
}

// call writes the head of a call of grpc.health.v1.Health/Check.
func call(m *header.Map, p *GRPC, s *session) {
	m.AddCopy(header.Method, []byte("POST"))
	m.AddCopy(header.Path, []byte("/grpc.health.v1.Health/Check"))
	m.AddCopy(header.Authority, []byte(s.authority(p.Authority)))
	m.AddCopy(header.Scheme, []byte(s.scheme()))
	m.AddCopy(header.TE, []byte("trailers"))
	m.AddCopy(header.ContentType, []byte("application/grpc"))
	m.AddCopy(header.UserAgent, []byte("Envoy/HC"))
	m.AddCopy(header.GrpcTimeout, append(strconv.AppendInt(nil, s.k.config.Timeout.Milliseconds(), 10), 'm'))
	apply(m, p.Add, nil)
}

// message is a HealthCheckRequest, with its prefix: field 1 is the service.
func message(service string) []byte {
	var body []byte
	if service != "" {
		body = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), service)
	}
	out := make([]byte, 5, 5+len(body))
	binary.BigEndian.PutUint32(out[1:], uint32(len(body)))
	return append(out, body...)
}

// serving judges a gRPC response: SERVING (1) in field 1 of the only message, and status 0.
func (a *answer) serving() result {
	bad := result{failure: Active}
	if a.status != 200 || !header.IsGRPC([]byte(a.contentType)) || a.grpcStatus != "0" {
		return bad
	}
	b := a.body
	if len(b) < 5 || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-5 {
		return bad
	}
	status := uint64(0)
	for b = b[5:]; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return bad
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return bad
		}
		if number == 1 && kind == protowire.VarintType {
			status, _ = protowire.ConsumeVarint(b)
		}
		b = b[n:]
	}
	if status != serving {
		return bad
	}
	return result{}
}

const serving = 1
