package pool

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/tls"
)

// A Reset says why a request got no (whole) response from its host.
type Reset uint8

// The reasons, in Envoy's words (String).
const (
	NoReset              Reset = iota
	LocalReset                 // we gave up
	RemoteReset                // the host reset the stream
	ConnectFailed              // no connection
	ConnectTimedOut            // no connection in time
	ConnectionTerminated       // the connection ended under way
	Overflow                   // a limit of the cluster
	ProtocolError              // the response made no sense
)

var resetNames = [...]string{
	"", "local reset", "remote reset", "remote connection failure", "connection timeout",
	"connection termination", "overflow", "protocol error",
}

// String returns Envoy's words.
func (r Reset) String() string { return resetNames[r] }

// A Handler is told about a request. Maps and bytes are valid during the call only,
// maps of headers until the stream is over.
type Handler interface {
	// OnReady gives the request its stream: it is to send the headers now.
	OnReady(s Stream)
	// OnFailure says that there will be no stream. why is the transport's reason, for logs and bodies.
	OnFailure(r Reset, why string)
	OnInformational(m *header.Map)
	OnHeaders(m *header.Map, end bool)
	OnData(b []byte, end bool)
	OnTrailers(m *header.Map)
	// OnReset ends a stream that was given; seen says what the host can have seen of the request.
	OnReset(r Reset, why string, seen Seen)
	// OnDrained says that the stream is not Full any more.
	OnDrained()
}

// Seen says what a host can have seen of a request that was reset.
type Seen uint8

const (
	// Unseen: not a byte has left us. Sending it again is safe, whatever it is.
	Unseen Seen = iota
	// Raced: sent on a connection that had been used before and that ended without a
	// byte of a response. Most likely the host closed it while idle; sending again is safe if the
	// method is idempotent (RFC 9110, section 9.2.2).
	Raced
	// MaybeSeen: the host may have acted on it.
	MaybeSeen
)

// A Message is where a response is put. It belongs to whoever asks for the stream.
type Message struct {
	Head     []byte
	Map      header.Map
	Trailers header.Map
}

// A Stream is a request on an upstream connection.
type Stream interface {
	SendHeaders(m *header.Map, end bool)
	SendData(b []byte, end bool)
	SendTrailers(m *header.Map)
	Full() bool // whoever feeds the request should pause
	Pause()     // the response cannot be taken
	Resume()
	Cancel() // give up; the handler hears nothing more
	Info() *Info
}

// Info says what is known of an upstream connection. It does not change once the connection is made.
type Info struct {
	Host     *cluster.Host
	ConnID   uint64
	Protocol access.Protocol
	Local    netip.AddrPort
	Remote   netip.AddrPort
	TLS      *access.TLS // nil: plain text
	ALPN     string
	Requests uint64 // streams that the connection has carried, this one included
	Conn     *drive.Conn
}

// A Pool holds the connections of a shard to one host by one transport.
type Pool struct {
	w       *Worker
	key     poolKey
	cluster *cluster.Cluster
	host    *cluster.Host
	client  *tls.Client // nil: plain text

	idle    *h1Conn // most recently used first
	waiting Pending // head of the ring of requests without a connection
	dialing int
	active  int
	total   int
	seen    *cluster.HostSet // that had the host when it was last looked up
}

// A Pending is a request that waits for a connection. Its owner embeds it.
type Pending struct {
	// Offer, if not empty, is what a connection for this request offers as ALPN, names with
	// commas between, where the cluster's own list says that it is a connection inside the mesh.
	// Istio's ALPN filter sets it: a connection that carries HTTP must say so on ports whose
	// protocol only the first bytes tell.
	Offer string

	next, prev *Pending
	pool       *Pool
	handler    Handler
	limits     *cluster.Breakers
	response   *Message
}

// Waits reports whether the request waits.
func (p *Pending) Waits() bool { return p.pool != nil }

// Cancel stops waiting. The connection that was being made for it goes on: somebody else will want it.
func (p *Pending) Cancel() {
	if p.pool == nil {
		return
	}
	p.unlink()
	p.pool.cluster.Stats.UpstreamRqCancelled.Inc()
	p.pool = nil
}

func (p *Pending) unlink() {
	p.prev.next, p.next.prev = p.next, p.prev
	p.next, p.prev = nil, nil
	p.limits.Pending.Release()
	p.pool.cluster.Stats.UpstreamRqPendingActive.Dec()
}

// Open asks for a stream to a host. The answer may come before Open returns.
// authority is the request's, for clusters whose TLS server name follows it.
func (w *Worker) Open(p *Pending, c *cluster.Cluster, h *cluster.Host, prio cluster.Priority, authority []byte, response *Message, handler Handler) {
	pool := w.pool(c, h, authority, p.Offer)
	limits := c.Limit(prio)
	if conn := pool.takeIdle(); conn != nil {
		if !limits.Requests.TryAcquire() {
			pool.putIdle(conn)
			c.Stats.UpstreamRqPendingOverflow.Inc()
			handler.OnFailure(Overflow, "")
			return
		}
		conn.begin(handler, limits, response)
		handler.OnReady(conn)
		return
	}
	if !limits.Pending.TryAcquire() {
		c.Stats.UpstreamRqPendingOverflow.Inc()
		handler.OnFailure(Overflow, "")
		return
	}
	c.Stats.UpstreamRqPendingTotal.Inc()
	c.Stats.UpstreamRqPendingActive.Inc()
	p.pool, p.handler, p.limits, p.response = pool, handler, limits, response
	p.prev, p.next = pool.waiting.prev, &pool.waiting
	p.prev.next, p.next.prev = p, p
	pool.dial(limits)
}

// pool returns the pool of a host.
func (w *Worker) pool(c *cluster.Cluster, h *cluster.Host, authority []byte, offer string) *Pool {
	client, _ := h.Transport.Socket.(*tls.Client)
	key := poolKey{state: h.State, transport: h.Transport}
	if client != nil && client.ByAuthority() {
		key.name = client.ServerName(string(authority))
	}
	if client != nil && client.InMesh() {
		key.offer = offer
	}
	if p := w.last; p != nil && p.key == key {
		p.host = h
		return p
	}
	p := w.pools[key]
	if p == nil {
		p = &Pool{w: w, key: key, cluster: c, client: client}
		p.waiting.next, p.waiting.prev = &p.waiting, &p.waiting
		w.pools[key] = p
		if !w.sweep.Armed() {
			w.Loop.Schedule(&w.sweep, sweepEvery)
		}
	}
	p.cluster, p.host = c, h
	w.last = p
	return p
}

func (p *Pool) empty() bool { return p.total == 0 && p.waiting.next == &p.waiting }

// retireIfGone closes idle connections once the cluster no longer has the host, or
// the runtime no longer has the cluster.
func (p *Pool) retireIfGone(w *Worker) {
	if p.idle == nil {
		return
	}
	if w.Source != nil && w.Source.Cluster(p.cluster.Name) == p.cluster {
		set := p.cluster.Hosts()
		if set == p.seen || p.cluster.Kind == cluster.OriginalDst {
			return
		}
		if h := set.Find(p.host.Addr); h != nil && h.Transport == p.key.transport {
			p.seen = set
			return
		}
	}
	p.closeIdle()
}

func (p *Pool) closeIdle() {
	for p.idle != nil {
		p.takeIdle().retire()
	}
}

func (p *Pool) takeIdle() *h1Conn {
	for {
		c := p.idle
		if c == nil {
			return nil
		}
		p.unlinkIdle(c)
		if c.conn.Alive() && !c.conn.Ended() {
			return c
		}
		c.retire()
	}
}

func (p *Pool) putIdle(c *h1Conn) {
	c.isIdle = true
	c.nextIdle, c.prevIdle = p.idle, nil
	if p.idle != nil {
		p.idle.prevIdle = c
	}
	p.idle = c
}

func (p *Pool) unlinkIdle(c *h1Conn) {
	if !c.isIdle {
		return
	}
	if c.prevIdle != nil {
		c.prevIdle.nextIdle = c.nextIdle
	} else {
		p.idle = c.nextIdle
	}
	if c.nextIdle != nil {
		c.nextIdle.prevIdle = c.prevIdle
	}
	c.nextIdle, c.prevIdle, c.isIdle = nil, nil, false
}

// release gives a connection to whoever waits, or puts it aside.
func (p *Pool) release(c *h1Conn) {
	if p.serve(c) {
		return
	}
	if timeout := *p.cluster.IdleTimeout; timeout > 0 {
		c.conn.SetDeadline(p.w.Loop.Now() + int64(timeout))
	}
	p.putIdle(c)
}

// serve gives a connection to the first that waits.
func (p *Pool) serve(c *h1Conn) bool {
	for p.waiting.next != &p.waiting {
		next := p.waiting.next
		next.unlink()
		next.pool = nil
		if !next.limits.Requests.TryAcquire() {
			p.cluster.Stats.UpstreamRqPendingOverflow.Inc()
			next.handler.OnFailure(Overflow, "")
			continue
		}
		c.begin(next.handler, next.limits, next.response)
		next.handler.OnReady(c)
		return true
	}
	return false
}

// failWaiting tells all that wait that there is no connection to be had.
func (p *Pool) failWaiting(r Reset, why string) {
	var list Pending // those who come back at once must not be failed again
	if p.waiting.next == &p.waiting {
		return
	}
	list.next, list.prev = p.waiting.next, p.waiting.prev
	list.next.prev, list.prev.next = &list, &list
	p.waiting.next, p.waiting.prev = &p.waiting, &p.waiting
	for list.next != &list {
		next := list.next
		next.unlink()
		next.pool = nil
		p.cluster.Stats.UpstreamRqPendingFailureEject.Inc()
		next.handler.OnFailure(r, why)
	}
}

// dial makes a connection for a request that waits. The limit on connections does
// not hold for a host that has none: its requests would wait for ever.
func (p *Pool) dial(limits *cluster.Breakers) {
	if !limits.Connections.TryAcquire() {
		p.cluster.Stats.UpstreamCxOverflow.Inc()
		if p.total > 0 {
			return
		}
		limits.Connections.Acquire()
	}
	c := &h1Conn{pool: p, limits: limits, began: p.w.Loop.Now(), connecting: true}
	c.info.Host = p.host
	c.timer.Handler = c
	p.total++
	p.dialing++
	st := p.cluster.Stats
	st.UpstreamCxTotal.Inc()
	st.UpstreamCxHTTP1Total.Inc()
	st.UpstreamCxActive.Inc()
	p.host.CxTotal.Inc()
	p.host.Connections.Inc()
	p.w.Loop.Schedule(&c.timer, p.cluster.ConnectTimeout)
	c.conn = p.w.Loop.Dial(p.w.DialOptions(p.cluster, p.host), c)
	c.conn.SetMark(int(p.cluster.BufferLimit))
}

// DialOptions say how a host of a cluster is reached.
func (w *Worker) DialOptions(c *cluster.Cluster, h *cluster.Host) drive.Dial {
	d := drive.Dial{Addr: h.Addr, Mark: w.Mark, Source: c.Bind}
	if h.Addr.Addr().Is6() && c.BindV6.IsValid() {
		d.Source = c.BindV6
	}
	return d
}

// ConnectError puts an error into Envoy's words.
func ConnectError(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		text := errno.Error()
		return "delayed connect error: " + strings.ToUpper(text[:1]) + text[1:]
	}
	return "delayed connect error: " + err.Error()
}

func ms(ns int64) uint64 { return uint64(max(0, ns) / int64(time.Millisecond)) }
