package listen

import (
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/ratelimit"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Listening gate has more to do with a connection that it has admitted.
type Listening interface {
	// Secured is called after the handshake.
	Secured(c *Conn)
	// Heard is called when the client has sent its first bytes. It reports whether it has said something.
	Heard(c *Conn) bool
}

// A RateLimit is the listener or network filter local_ratelimit: connections that find no token end.
type RateLimit struct {
	Bucket *ratelimit.Bucket
	Stats  *stats.ConnectionRate
}

func (r *RateLimit) admit(now time.Time) bool {
	if r == nil || r.Bucket.Take(1, now) {
		return true
	}
	r.Stats.RateLimited.Inc()
	return false
}

// Admit takes a connection if there is a token for it.
func (r *RateLimit) Admit(w *pool.Worker, c *Conn) bool {
	if r.admit(w.Loop.Time()) {
		return true
	}
	why := &access.Record{LocalClose: "local_ratelimit_close_over_limit"}
	why.Flags.Set(access.UpstreamRetryLimitExceeded) // it is this flag in Envoy, although nothing is tried again
	c.sendAway(why)
	c.close()
	return false
}

// sendAway tells the filter at the end of the chain of a connection that it does not get, and has logs say why once it is over.
func (c *Conn) sendAway(why *access.Record) {
	if f, ok := c.Chain.Filter.(Counting); ok {
		f.SentAway(c)
	}
	c.away = why
}

// recordAway tells of a connection that was sent away: the listener's logs, and those of the filter that it was meant for.
func (c *Conn) recordAway() {
	r := c.away
	if r.ClientEnd.How == "" {
		r.ClientEnd.How = access.EndLocalClosed
	}
	if f, ok := c.Chain.Filter.(Counting); ok {
		f.Gone(c, r.ClientEnd.How == access.EndRemoteClosed || r.ClientEnd.How == access.EndRemoteReset)
	}
	c.describe(r)
	r.BytesReceived, r.BytesSent = c.Conn.Carried()
	c.Tell(r)
	if f, ok := c.Chain.Filter.(Recording); ok {
		r.Type = access.TCPConnectionEnd
		f.Record(c.Worker.Index, r)
	}
}

// A Limit is the network filter connection_limit: it bounds the open connections of a chain, all shards.
type Limit struct {
	Max   int64
	Delay time.Duration // before a connection too many is closed
	Stats *stats.ConnectionLimit
	open  atomic.Int64
}

// Admit takes a connection if there is room for it.
func (l *Limit) Admit(w *pool.Worker, c *Conn) bool {
	if l.open.Add(1) > l.Max {
		l.open.Add(-1)
		l.Stats.Limited.Inc()
		c.sendAway(&access.Record{})
		if l.Delay == 0 {
			c.overLimit()
			return false
		}
		c.SetHandler(late{c})
		c.timer = drive.Timer{Handler: late{c}}
		w.Loop.Schedule(&c.timer, l.Delay)
		c.keep()
		return false
	}
	l.Stats.Active.Inc()
	c.limits = append(c.limits, l)
	return true
}

func (l *Limit) release() {
	l.open.Add(-1)
	l.Stats.Active.Dec()
}

// overLimit ends a connection too many.
func (c *Conn) overLimit() {
	c.away.LocalClose = "over_connection_limit"
	c.close()
}

// late is a connection too many that is kept waiting, so that its client does not come back at once. What it sends is
// left in the buffers.
type late struct{ c *Conn }

// keep lets the connection wait, after its handshake. Where the filter would read, its client may go when it likes.
func (c *Conn) keep() {
	f, counts := c.Chain.Filter.(Counting)
	switch {
	case c.Chain.TLS != nil && c.TLS == nil:
		c.handshake()
	case counts && !f.Reads():
		c.Pause()
	default:
		if c.EndEarly(true); counts { // behind what the buffers hold
			f.Measure(c)
		}
	}
}

func (l late) OnTimer(*drive.Timer) { l.c.overLimit() }

func (l late) OnData(*drive.Conn, []byte) int { return 0 }

func (l late) OnEnd(*drive.Conn) {
	l.c.away.ClientEnd.How = access.EndRemoteClosed
	l.c.close()
}

func (l late) OnClose(_ *drive.Conn, err error) {
	l.c.away.ClientEnd.How, l.c.away.ClientClose = access.EndRemoteReset, access.CloseRemoteReset
	l.c.OnClose(nil, err)
}

func (l late) OnDrained(*drive.Conn)  {}
func (l late) OnDeadline(*drive.Conn) {}

// A Response is the network filter direct_response: what it says to every client before it closes the connection.
type Response struct{ Body []byte }

// Serve says it. The client may be sending, and must not lose it by a reset.
func (r *Response) Serve(_ *pool.Worker, c *Conn) {
	c.Write(r.Body)
	c.Release()
	c.Worker.Loop.Cancel(&c.timer)
	c.CloseGently()
}

// SNICluster is the network filter sni_cluster: the name that the client asks for is the name of the
// cluster that a TCP proxy sends it to.
type SNICluster struct{}

// Admit takes the name.
func (SNICluster) Admit(_ *pool.Worker, c *Conn) bool {
	if c.SNI != "" {
		c.Cluster = c.SNI
	}
	return true
}
