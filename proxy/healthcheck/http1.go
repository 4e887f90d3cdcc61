package healthcheck

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"

	"github.com/mallamesh/malla/proxy/h1"
	"github.com/mallamesh/malla/proxy/header"
)

// An http1 is a connection of HTTP/1.1.
type http1 struct {
	c      net.Conn
	parser h1.Parser
	in     []byte // read and not used
}

func (c *http1) net() net.Conn { return c.c }

// check sends a request and reads the answer.
func (c *http1) check(s *session) (r result, again, stale bool) {
	p := s.k.config.Probe.(*HTTP)
	var m header.Map
	request(&m, p, s)
	if len(c.in) > 0 { // nobody asked for that
		return result{failure: Network}, false, true
	}
	head := h1.AppendRequest(nil, &m, h1.Form{Empty: p.Send == nil && !h1.Bodiless(m.Get(header.Method))})
	if _, err := c.c.Write(append(head, p.Send...)); err != nil {
		return broken(err), false, true
	}
	a := answer{limit: p.BodyLimit}
	keep, err := c.read(&a, m.Get(header.Method))
	if err != nil {
		return broken(err), false, a.status == 0 && len(c.in) == 0 && errors.Is(err, io.EOF)
	}
	return a.judge(s, p), keep, false
}

// request writes the fields of a check.
func request(m *header.Map, p *HTTP, s *session) {
	method := p.Method
	if method == "" {
		method = "GET"
	}
	m.AddCopy(header.Method, []byte(method))
	m.AddCopy(header.Path, []byte(p.Path))
	m.AddCopy(header.Authority, []byte(s.authority(p.Host)))
	m.AddCopy(header.Scheme, []byte(s.scheme()))
	m.AddCopy(header.UserAgent, []byte("Envoy/HC"))
	if p.Send != nil {
		m.AddCopy(header.ContentLength, strconv.AppendInt(nil, int64(len(p.Send)), 10))
	}
	apply(m, p.Add, p.Remove)
}

func (s *session) scheme() string {
	if s.host.Load().Transport.Socket != nil {
		return "https"
	}
	return "http"
}

// more reads what comes next.
func (c *http1) more() error {
	var b [4096]byte
	n, err := c.c.Read(b[:])
	c.in = append(c.in, b[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// read reads one response, and says whether the connection can serve again.
func (c *http1) read(a *answer, method []byte) (keep bool, err error) {
	var head h1.Head
	for a.status < 200 {
		n, seen := 0, 0
		for {
			var bad *h1.Error
			if n, bad = c.parser.HeadEnd(c.in, seen); bad != nil {
				return false, bad
			} else if n > 0 {
				break
			}
			seen = len(c.in)
			if err := c.more(); err != nil {
				return false, err
			}
		}
		var m header.Map
		var bad *h1.Error
		if head, bad = c.parser.Response(c.in[:n], &m, method); bad != nil {
			return false, bad
		}
		a.take(head.Status, &m)
		c.in = append(c.in[:0:0], c.in[n:]...)
		if head.Status == 101 {
			return false, errors.New("the host switches protocols")
		}
	}
	var body h1.Body
	body.Start(&head)
	for left := maxAnswer; !body.Done(); {
		piece, n, bad := body.Next(&c.parser, c.in, &header.Map{})
		if bad != nil {
			return false, bad
		}
		a.data(piece)
		if left -= n; left < 0 {
			return false, errTooMuch
		}
		c.in = append(c.in[:0:0], c.in[n:]...)
		if body.Done() || n > 0 && len(c.in) > 0 {
			continue
		}
		if err := c.more(); err != nil {
			if errors.Is(err, io.EOF) && body.End() {
				return false, nil
			}
			return false, err
		}
	}
	return head.KeepAlive && len(c.in) == 0, nil
}

// maxAnswer bounds the body of an answer.
const maxAnswer = 1 << 20

// An answer is what a response says of health.
type answer struct {
	status              int
	degraded, immediate bool
	service             string
	grpcStatus          string
	contentType         string
	limit               int
	body                []byte
}

func (a *answer) take(status int, m *header.Map) {
	a.status = status
	if status < 200 {
		return
	}
	a.degraded, a.immediate = m.Has(header.XEnvoyDegraded), m.Has(header.XEnvoyImmediateHealthCheckFail)
	a.service = string(m.LookupString("x-envoy-upstream-healthchecked-cluster"))
	a.grpcStatus, a.contentType = string(m.Get(header.GrpcStatus)), string(m.Get(header.ContentType))
}

func (a *answer) data(b []byte) {
	if room := a.limit - len(a.body); room < len(b) {
		b = b[:max(room, 0)]
	}
	a.body = append(a.body, b...)
}

// judge is Envoy's judgement of a response.
func (a *answer) judge(s *session, p *HTTP) result {
	expected := p.Expected
	if len(expected) == 0 {
		expected = []Range{{200, 201}}
	}
	switch {
	case !within(expected, a.status):
		return result{failure: Active, retriable: within(p.Retriable, a.status), immediate: a.immediate, status: a.status}
	case !inOrder(p.Receive, a.body):
		return result{failure: Active, immediate: a.immediate, status: a.status}
	}
	if p.Service != nil {
		if s.k.stats.VerifyCluster.Inc(); !p.Service(a.service) {
			return result{failure: Active, status: a.status}
		}
	}
	return result{degraded: a.degraded, status: a.status}
}

// inOrder reports whether all parts are in b, one behind the other.
func inOrder(parts [][]byte, b []byte) bool {
	for _, p := range parts {
		i := bytes.Index(b, p)
		if i < 0 {
			return false
		}
		b = b[i+len(p):]
	}
	return true
}
