package pool

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/overload"
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
	Overflow                   // a limit of the cluster: no more may wait
	ActiveOverflow             // a limit of the cluster: no more may be under way
	ProtocolError              // the response made no sense
	RemoteRefused              // the host says that it has not begun (REFUSED_STREAM, GOAWAY)
	LocalConnectFailed         // no connection, and the host is not to blame
	Shed                       // a connection would have to be made, and the proxy has too much of something
)

var resetNames = [...]string{
	"", "local reset", "remote reset", "remote connection failure", "connection timeout",
	"connection termination", "overflow", "overflow", "protocol error", "remote refused stream reset", "local connection failure",
	"overflow",
}

// String returns Envoy's words.
func (r Reset) String() string { return resetNames[r] }

// A Handler is told about a request. Maps and bytes are valid during the call only,
// maps of headers until the stream is over.
type Handler interface {
	// OnReady gives the request its stream: it is to send the headers now.
	OnReady(s Stream)
	// OnFailure says that there will be no stream.
	OnFailure(l Loss)
	OnInformational(m *header.Map)
	OnHeaders(m *header.Map, end bool)
	OnData(b []byte, end bool)
	OnTrailers(m *header.Map)
	// OnReset ends a stream that was given.
	OnReset(l Loss)
	// OnDrained says that the stream is not Full any more.
	OnDrained()
}

// A Loss is why there is no stream, or why one that was given has no (whole) response.
type Loss struct {
	Reset Reset
	Why   string // the transport's reason, for logs and bodies
	Seen  Seen
	End   access.Closing
}

// Seen says what a host can have seen of a request that was reset.
type Seen uint8

const (
	// Unseen: not a byte has left us, or none has reached the host before it closed. Sending it
	// again is safe, whatever it is.
	Unseen Seen = iota
	// Raced: sent on a connection that had been used before and that ended without a byte of a response, as
	// if the host had closed it while idle: before its system had all of the request, or by a reset that came
	// as soon as one can. Sending again is safe if the method is idempotent (RFC 9110, section 9.2.2).
	Raced
	// MaybeSeen: the host may have acted on it.
	MaybeSeen
)

// Idempotent reports whether a request of a method may be sent twice (RFC 9110, section 9.2.2).
func Idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// A Message is where a response is put. It belongs to whoever asks for the stream.
type Message struct {
	Head     []byte
	Map      header.Map
	Trailers header.Map
	Meter    *access.Meter // where bytes are counted, nil: nowhere
	Helpings bool          // filters see the body, which comes in pieces of at most a [Helping]
}

// Helping is how much of a body filters are given at a time: some make much of little (a decompressor a hundred times
// as much), and only between the pieces somebody can say that it is enough. After four it is the turn of others.
const Helping = 16 << 10

// meter is where the bytes of a request and its response are counted.
func (m *Message) meter(w *Worker) *access.Meter {
	if m.Meter == nil {
		return &w.unmeasured
	}
	return m.Meter
}

// A Stream is a request on an upstream connection.
type Stream interface {
	SendHeaders(m *header.Map, end bool)
	SendData(b []byte, end bool)
	SendTrailers(m *header.Map)
	Full() bool // whoever feeds the request should pause
	Held() int  // bytes of the request that have not left
	Pause()     // the response cannot be taken
	Resume()
	Cancel() // give up; the handler hears nothing more
	// Closing is what a log says of the stream's end, if it were now.
	Closing(how string) access.Closing
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
	Dial     access.Dial
	Requests uint64 // streams that the connection has carried, this one included
	Conn     *drive.Conn
	State    *access.State // what the connection knows of what filters said, nil: nothing
}

// A Pool holds the connections of a shard to one host by one transport.
type Pool struct {
	w       *Worker
	key     poolKey
	cluster *cluster.Cluster
	host    *cluster.Host
	client  *tls.Client // nil: plain text
	origin  Origin      // as far as the key tells
	wish    *tls.Wish
	meter   *drive.Meter

	idle    *h1Conn   // of HTTP/1.1, without a request; most recently used first
	open    []*h2Conn // of HTTP/2, that take requests
	waiting Pending   // head of the ring of requests without a connection
	waits   int       // how many these are
	dialing int
	latest  *upstream // of those that are being made
	idles   int       // connections in idle
	single  bool      // the last connection carried one request at a time
	streams uint32    // how many requests the host allows on a connection, 0: it has not said
	active  int
	total   int
	counted *cluster.Breakers // that count the pool, nil: none
	place   int               // in its crowd, if these limit it
	fails   uint32            // how often the host had failed when its connections were last thought good
	seen    *cluster.HostSet  // that had the host when it was last looked up
	change  uint64            // of the hosts, since which the connections were made; 0: it does not matter
}

// Offers are what a connection that carries HTTP offers as ALPN, names with commas
// between, by the version that it will carry, where the cluster's own list says that it is a
// connection inside the mesh. Istio's ALPN filter sets them: such a connection must say so on ports
// whose protocol only the first bytes tell.
type Offers struct{ HTTP11, HTTP2 string }

// A Pending is a request that waits for a connection. Its owner embeds it.
type Pending struct {
	Offers Offers
	Origin Origin
	Wish   *tls.Wish // of the request, about TLS; nil: none
	Raw    bool      // the connection is to carry the request's bytes and no HTTP
	HTTP2  bool      // the request came by HTTP/2, and goes by it where the cluster follows its clients

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

// Closing is what a log says of a request that is given up while it waits: how far the connection has come that was begun last.
func (p *Pending) Closing(how string) access.Closing {
	if p.pool == nil || p.pool.latest == nil {
		return access.Closing{}
	}
	return p.pool.latest.dial.closing(nil, how, "")
}

func (p *Pending) unlink() {
	p.prev.next, p.next.prev = p.next, p.prev
	p.next, p.prev = nil, nil
	p.pool.waits--
	p.limits.Pending.Release()
	p.pool.cluster.Stats.UpstreamRqPendingActive.Dec()
	p.pool.host.Pending.Dec()
}

// Open asks for a stream to a host. The answer may come before Open returns.
// authority is the request's, for clusters whose TLS server name follows it.
func (w *Worker) Open(p *Pending, c *cluster.Cluster, h *cluster.Host, prio cluster.Priority, authority []byte, response *Message, handler Handler) {
	limits := c.Limit(prio)
	if c.PreconnectNext > 1 {
		w.dialNext(p, c, prio, authority)
	}
	pool := w.pool(c, h, prio, authority, p)
	pool.count(limits)
	if conn := pool.available(); conn != nil {
		if !limits.Requests.TryAcquire() {
			c.Stats.UpstreamRqActiveOverflow.Inc()
			handler.OnFailure(Loss{Reset: ActiveOverflow})
			return
		}
		handler.OnReady(conn.begin(handler, limits, response))
		if c.Preconnect > 1 {
			pool.dialAhead(limits)
		}
		return
	}
	if w.Overload.Points[overload.NewConnection].Hit(w) {
		handler.OnFailure(Loss{Reset: Shed})
		return
	}
	if !limits.Pending.TryAcquire() {
		c.Stats.UpstreamRqPendingOverflow.Inc()
		handler.OnFailure(Loss{Reset: Overflow})
		return
	}
	c.Stats.UpstreamRqPendingTotal.Inc()
	c.Stats.UpstreamRqPendingActive.Inc()
	h.Pending.Inc()
	p.pool, p.handler, p.limits, p.response = pool, handler, limits, response
	p.prev, p.next = pool.waiting.prev, &pool.waiting
	p.prev.next, p.next.prev = p, p
	pool.waits++
	pool.dialFor(limits)
}

// pool returns the pool of a host for a request.
func (w *Worker) pool(c *cluster.Cluster, h *cluster.Host, prio cluster.Priority, authority []byte, rq *Pending) *Pool {
	var key poolKey
	key.of(c, h, prio, authority, rq)
	return w.poolAt(&key, c, h, rq)
}

// of sets the key of the pool for a request.
func (key *poolKey) of(c *cluster.Cluster, h *cluster.Host, prio cluster.Priority, authority []byte, rq *Pending) {
	client, _ := h.Transport.Socket.(*tls.Client)
	*key = poolKey{state: h.State, transport: h.Transport, priority: prio, version: versionFor(c, rq), origin: rq.Origin.key(h)}
	if client != nil && client.ByAuthority() {
		key.name = client.ServerName(string(authority), "")
	}
	if client != nil && rq.Wish != nil {
		key.wish = keyOf(rq.Wish)
	}
	if client != nil && client.InMesh() {
		key.offers = rq.Offers
	}
}

// poolAt returns the pool of a key.
func (w *Worker) poolAt(key *poolKey, c *cluster.Cluster, h *cluster.Host, rq *Pending) *Pool {
	if p := w.last; p != nil && p.key == *key {
		p.host = h
		p.renew()
		return p
	}
	p := w.pools[*key]
	if p == nil {
		client, _ := h.Transport.Socket.(*tls.Client)
		p = &Pool{w: w, key: *key, client: client, origin: rq.Origin.kept(), wish: rq.Wish, fails: h.Failures()}
		p.waiting.next, p.waiting.prev = &p.waiting, &p.waiting
		w.pools[*key] = p
		if !w.sweep.Armed() {
			w.Loop.Schedule(&w.sweep, sweepEvery)
		}
	}
	if p.cluster != c && c.PreconnectNext > 1 {
		w.forecast(c).joins(p)
	}
	p.cluster, p.host = c, h
	w.last = p
	p.renew()
	return p
}

// renew has connections end that were made before the host failed its checks or was ejected, as in Envoy, and those that were made
// for another set of hosts, if the cluster wants that.
func (p *Pool) renew() {
	if n := p.key.state.Failures(); n != p.fails && p.key.version != raw {
		p.fails = n
		p.retireAll()
	}
	if !p.cluster.CloseOnChange {
		return
	}
	if change := p.cluster.Hosts().Change; change != p.change {
		if p.change != 0 {
			p.retireAll()
		}
		p.change = change
	}
}

func (p *Pool) empty() bool { return p.total == 0 && p.waits == 0 }

// first is the request that waits longest, nil if none does.
func (p *Pool) first() *Pending {
	if p.waiting.next == &p.waiting {
		return nil
	}
	return p.waiting.next
}

// retry makes a connection for the requests that wait, if none is being made.
func (p *Pool) retry() {
	if next := p.first(); next != nil && p.dialing == 0 {
		p.dialFor(next.limits)
	}
}

// retireIfGone ends connections once the cluster no longer has the host, or
// the runtime no longer has the cluster.
func (p *Pool) retireIfGone(w *Worker) {
	if p.idle == nil && len(p.open) == 0 {
		return
	}
	p.renew()
	if w.Source != nil && w.Source.Cluster(p.cluster.Name) == p.cluster {
		set := p.cluster.Hosts()
		if set == p.seen || p.cluster.ByAddress() {
			return
		}
		if h := set.Find(p.host.Addr); h != nil && h.Transport == p.key.transport {
			p.seen = set
			return
		}
	}
	p.retireAll()
}

// serve gives a connection that can carry a request more to the first that waits; it
// reports whether there was one.
func (p *Pool) serve(c carrier) bool {
	for next := p.first(); next != nil; next = p.first() {
		next.unlink()
		next.pool = nil
		if !next.limits.Requests.TryAcquire() {
			p.cluster.Stats.UpstreamRqActiveOverflow.Inc()
			next.handler.OnFailure(Loss{Reset: ActiveOverflow})
			continue
		}
		next.handler.OnReady(c.begin(next.handler, next.limits, next.response))
		return true
	}
	return false
}

// failWaiting tells all that wait that there is no connection to be had.
func (p *Pool) failWaiting(l Loss) {
	var list Pending // those who come back at once must not be failed again
	if p.first() == nil {
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
		next.handler.OnFailure(l)
	}
}

// ConnectError puts an error into Envoy's words.
func ConnectError(err error) string {
	if unready, ok := errors.AsType[*drive.UnreadyError](err); ok {
		return unready.Error()
	}
	text := err.Error()
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		text = errno.Error()
		text = strings.ToUpper(text[:1]) + text[1:]
	}
	if now, ok := errors.AsType[*drive.ImmediateError](err); ok {
		return "immediate connect error: " + text + "|remote address:" + pipe.String(now.Addr)
	}
	return "delayed connect error: " + text
}

func ms(ns int64) uint64 { return uint64(max(0, ns) / int64(time.Millisecond)) }
