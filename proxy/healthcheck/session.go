package healthcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/h1"
	malltls "github.com/mallamesh/malla/proxy/tls"
)

// A session checks one host.
type session struct {
	k      *Checker
	host   atomic.Pointer[cluster.Host]
	told   chan struct{} // a response said that the host is not well
	ctx    context.Context
	cancel context.CancelFunc

	// Of the session's goroutine.
	verdict verdict
	open    conn // kept between checks; nil: none
}

// A conn is a connection on which a check can be made.
type conn interface {
	// check asks once. again says that the connection may serve once more; stale that it was closed before the host can have seen the question.
	check(s *session) (r result, again, stale bool)
	net() net.Conn
}

func (k *Checker) session(h *cluster.Host) *session {
	s := &session{k: k, told: make(chan struct{}, 1)}
	s.host.Store(h)
	s.ctx, s.cancel = context.WithCancel(k.ctx)
	return s
}

// run checks the host until the session ends.
func (s *session) run() {
	k := s.k
	defer s.cancel()
	defer s.drop()
	state := s.host.Load().State
	if state.Check()&cluster.CheckFailed == 0 {
		k.stats.Healthy.Inc()
	}
	defer func() { // the gauges say how many there are
		if state.Check()&cluster.CheckFailed == 0 {
			k.stats.Healthy.Dec()
		}
		if state.Check()&cluster.CheckDegraded != 0 {
			k.stats.Degraded.Dec()
		}
	}()
	wait := some(k.config.InitialJitter)
	for {
		if !s.sleep(wait) {
			return
		}
		k.stats.Attempt.Inc()
		r := s.probe()
		if s.ctx.Err() != nil || !s.note(r, &wait) {
			return
		}
		k.checked(state)
	}
}

// sleep waits for the next check, and takes in meanwhile what responses say of the host.
func (s *session) sleep(d time.Duration) bool {
	if d <= 0 {
		return s.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-s.told:
			var ignored time.Duration
			if !s.note(result{failure: Passive, immediate: true}, &ignored) {
				return false
			}
		case <-s.ctx.Done():
			return false
		}
	}
}

// note draws the consequences of a result. It reports whether the host is still in the cluster.
func (s *session) note(r result, wait *time.Duration) bool {
	k, h := s.k, s.host.Load()
	was := h.Check()
	var o outcome
	passed := r.failure == None
	if passed {
		k.stats.Success.Inc()
		o = s.verdict.pass(k.config, r, was)
	} else {
		k.stats.Failure.Inc()
		switch {
		case r.failure.network():
			k.stats.NetworkFailure.Inc()
		case r.failure == Passive:
			k.stats.PassiveFailure.Inc()
		}
		o = s.verdict.fail(k.config, r, was)
	}
	well := passed && (was&^o.unset|o.set)&cluster.CheckFailed == 0
	there := k.cluster.SetCheck(h.State, o.set, o.unset, well && k.config.Uneject)
	s.count(was, h.Check())
	k.tell(h, o.events)
	*wait = k.wait(passed, o.pending)
	return there
}

// count keeps the gauges.
func (s *session) count(was, now cluster.Check) {
	st := s.k.stats
	switch changed := was ^ now; {
	case changed&cluster.CheckFailed == 0:
	case now&cluster.CheckFailed == 0:
		st.Healthy.Inc()
	default:
		st.Healthy.Dec()
	}
	switch changed := was ^ now; {
	case changed&cluster.CheckDegraded == 0:
	case now&cluster.CheckDegraded != 0:
		st.Degraded.Inc()
	default:
		st.Degraded.Dec()
	}
}

// probe makes one check.
func (s *session) probe() result {
	deadline := time.Now().Add(s.k.config.Timeout)
	for {
		kept := s.open != nil
		if !kept {
			if r := s.connect(deadline); r.failure != None {
				return r
			}
			if s.open == nil { // connecting was all
				return result{}
			}
		}
		_ = s.open.net().SetDeadline(deadline)
		ended := context.AfterFunc(s.ctx, func(c net.Conn) func() { return func() { c.Close() } }(s.open.net()))
		r, again, stale := s.open.check(s)
		ended()
		if !again || s.k.config.NoReuse {
			s.drop()
		}
		if stale && kept {
			continue // the host had closed it: that says nothing
		}
		return r
	}
}

// drop closes the connection.
func (s *session) drop() {
	if s.open != nil {
		s.open.net().Close()
		s.open = nil
	}
}

// address is where the host is checked.
func (s *session) address() netip.AddrPort {
	h := s.host.Load()
	a := h.Addr
	if t := h.Target; t != nil {
		if t.Port != 0 {
			a = netip.AddrPortFrom(a.Addr(), t.Port)
		}
		if t.Addr.IsValid() {
			a = netip.AddrPortFrom(t.Addr, a.Port())
		}
	}
	return a
}

// authority is the name that the host is asked by.
func (s *session) authority(configured string) string {
	h := s.host.Load()
	switch {
	case h.Target != nil && h.Target.Name != "":
		return h.Target.Name
	case configured != "":
		return configured
	case h.Name != "":
		return h.Name
	}
	return s.k.cluster.Name
}

// connect opens the connection of the next checks.
func (s *session) connect(deadline time.Time) result {
	ctx, cancel := context.WithDeadline(s.ctx, deadline)
	defer cancel()
	network, at := "tcp", s.address()
	if _, ok := pipe.Path(at); ok {
		network = "unix"
	}
	if _, _, ok := pipe.Inside(at); ok {
		network = "envoy" // which nobody can dial: checks are made outside of the workers, where the proxy has no listeners
	}
	c, err := s.k.dial(ctx, network, pipe.String(at))
	if err == nil {
		c, err = s.secure(ctx, c)
	}
	if err != nil {
		return broken(err)
	}
	switch p := s.k.config.Probe.(type) {
	case *HTTP:
		if p.speaksHTTP2(c) {
			s.open = newHTTP2(c)
		} else {
			s.open = &http1{c: c, parser: h1.Parser{Lenient: true}}
		}
	case *GRPC:
		s.open = newHTTP2(c)
	case *TCP:
		if len(p.Send) == 0 && len(p.Receive) == 0 && p.Proxy == 0 {
			c.Close()
			return result{}
		}
		s.open = &tcpConn{c: c}
	}
	return result{}
}

// speaksHTTP2 reports whether a check is one of HTTP/2 on this connection.
func (p *HTTP) speaksHTTP2(c net.Conn) bool {
	if t, ok := c.(*tls.Conn); ok && p.ByALPN {
		switch t.ConnectionState().NegotiatedProtocol {
		case "h2":
			return true
		case "http/1.1":
			return false
		}
	}
	return p.HTTP2
}

// secure speaks TLS if the host does.
func (s *session) secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	t := s.k.config.Transport
	if t == nil {
		t = s.host.Load().Transport
	}
	client, ok := t.Socket.(*malltls.Client)
	if !ok {
		return c, nil
	}
	if !client.Ready() {
		c.Close()
		return nil, malltls.ErrNotReady
	}
	config := client.Config("", s.host.Load().Name, nil, nil, &malltls.Found{})
	if alpn := s.k.config.ALPN; len(alpn) > 0 {
		config.NextProtos = alpn
	}
	if local, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil { // of a Unix socket it is none
		client.Context().LogKeys(config, local.Addr(), s.host.Load().Addr.Addr())
	}
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secure, nil
}

// broken is the result of a connection that failed.
func broken(err error) result {
	var timeout net.Error
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return result{failure: NetworkTimeout}
	}
	return result{failure: Network}
}

// errTooMuch ends a check whose answer has no end.
var errTooMuch = errors.New("the answer is too long")
