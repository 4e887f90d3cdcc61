// Package call makes requests of the proxy's own to its clusters: those by which filters ask services.
//
// A [Call] is one request with one answer, both kept whole and bounded. It goes through the pools of its
// shard, under the limits of the cluster and with its statistics, and is tried once. Everything happens inside
// the turns of the shard; the answer may come before Start returns.
package call

import (
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
)

// MaxAnswer is how many bytes of an answer's body are taken. A longer one is no answer.
const MaxAnswer = 1 << 20

// A Call is a request and its answer. Its memory is used again for the next one.
type Call struct {
	Request header.Map // the caller's to fill; its bytes are borrowed until Done
	Body    []byte     // of the request

	// What came. Headers and Trailers are nil where there were none.
	OK                bool // the answer came whole
	Why               Failure
	Headers, Trailers *header.Map
	Answer            []byte

	// Done is told when the answer is here, or when there will be none.
	Done func(*Call)

	w       *pool.Worker
	cluster *cluster.Cluster
	msg     pool.Message
	pending pool.Pending
	up      pool.Stream
	filters *upstream.Bare
	books   upstream.Own
	timer   drive.Timer
	active  bool
}

// A Failure says why there is no answer.
type Failure uint8

// The failures.
const (
	Broken    Failure = iota // the host, or the way there
	NoHost                   // there is none to ask
	TimedOut                 //
	Oversized                // the answer is longer than MaxAnswer
)

// Start sends the request to a cluster, and gives up after a time; 0: never.
func (c *Call) Start(w *pool.Worker, to *cluster.Cluster, timeout time.Duration) {
	c.w, c.cluster, c.active = w, to, true
	c.OK, c.Why, c.Headers, c.Trailers, c.Answer = false, Broken, nil, nil, c.Answer[:0]
	c.timer.Handler = c
	h := c.books.Begin(w, to, cluster.Default, &c.pending, &c.Request)
	if h == nil {
		c.Why = NoHost
		c.done(false)
		return
	}
	if timeout > 0 {
		w.Loop.Schedule(&c.timer, timeout)
	}
	authority := to.NameFor(&c.Request)
	c.filters = upstream.BareOf(to, w, &c.Request)
	w.Open(&c.pending, to, h, cluster.Default, authority, &c.msg, c)
}

// Cancel gives the call up; Done is not told. It reports whether there was anything to give up.
func (c *Call) Cancel() bool {
	if !c.active {
		return false
	}
	c.active = false
	c.w.Loop.Cancel(&c.timer)
	c.pending.Cancel()
	if c.up != nil {
		c.up.Cancel()
		c.up = nil
	}
	return true
}

func (c *Call) done(ok bool) {
	if !c.active {
		return
	}
	c.Cancel()
	c.OK = ok
	c.Done(c)
}

// OnReady sends the request, if the cluster's filters have left one.
func (c *Call) OnReady(up pool.Stream) {
	c.up = up
	c.books.Ready()
	if c.filters != nil {
		if name := c.Request.Lacks(); name != "" {
			c.lacks(name)
			return
		}
	}
	up.SendHeaders(&c.Request, len(c.Body) == 0)
	if len(c.Body) > 0 {
		up.SendData(c.Body, true)
	}
}

// lacks answers in the place of the host, as Envoy's codec filter does where it sees that no request is left.
func (c *Call) lacks(name string) {
	c.Answer = append(append(c.Answer, "missing required header: "...), name...)
	m := &c.msg.Map
	m.Reset()
	m.Add(header.Status, []byte("503"))
	m.AddCopy(header.ContentLength, strconv.AppendInt(nil, int64(len(c.Answer)), 10))
	m.Add(header.ContentType, []byte("text/plain"))
	c.Headers = m
	c.done(true)
}

// OnHeaders takes the answer's headers.
func (c *Call) OnHeaders(m *header.Map, end bool) {
	c.filters.Response(m)
	c.Headers = m
	c.books.Headers(m, end)
	c.ended(end)
}

// OnData takes a piece of the answer.
func (c *Call) OnData(b []byte, end bool) {
	if len(c.Answer)+len(b) > MaxAnswer {
		c.Why = Oversized
		c.done(false)
		return
	}
	c.Answer = append(c.Answer, b...)
	if end {
		c.books.End(nil)
	}
	c.ended(end)
}

// OnTrailers ends the answer.
func (c *Call) OnTrailers(m *header.Map) {
	c.filters.ResponseTrailers(m)
	c.books.End(m)
	c.Trailers = m
	c.ended(true)
}

func (c *Call) ended(end bool) {
	if end {
		c.up = nil
		c.done(true)
	}
}

// OnInformational throws an interim answer away.
func (c *Call) OnInformational(m *header.Map) { c.books.Informational(m) }

// OnFailure ends the call.
func (c *Call) OnFailure(l pool.Loss) {
	c.books.Lost(l)
	c.done(false)
}

// OnReset ends the call.
func (c *Call) OnReset(l pool.Loss) {
	c.up = nil
	c.books.Lost(l)
	c.done(false)
}

// OnDrained does nothing: the request is here as a whole.
func (c *Call) OnDrained() {}

// OnTimer gives up.
func (c *Call) OnTimer(*drive.Timer) {
	c.books.TimedOut()
	c.Why = TimedOut
	c.done(false)
}
