package upstream

import (
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
)

// An Own keeps the books of one request of the proxy's own, a mirror's or a call's: its cluster's statistics, its host's counters and
// what outlier detection is told. They are those of clients' requests, since Envoy's own requests pass its router, too. Who sends the
// request tells what becomes of it.
type Own struct {
	w        *pool.Worker
	cluster  *cluster.Cluster
	host     *cluster.Host
	sent     int64
	ready    bool // it has a connection
	grpc     bool
	begun    bool // something of a response has come
	headed   bool // its head, at least
	untold   bool // how it has ended stands in trailers, which have not come
	loadTold bool // its headers report its load
}

// Begin chooses the host of a request, which is to wait as p; nil: there is none, or no pool of connections to it.
func (o *Own) Begin(w *pool.Worker, c *cluster.Cluster, prio cluster.Priority, p *pool.Pending, m *header.Map) *cluster.Host {
	pick := cluster.Pick{Random: w.RandomFor(c, w.Random())}
	if c.Naming != nil {
		pick.Wanted = new(cluster.Wanted)
		c.Naming.Want(pick.Wanted, m, new(metadata.Dynamic))
	}
	h, reason := c.Pick(&pick)
	*o = Own{w: w, cluster: c, host: h, grpc: header.IsGRPC(m.Get(header.ContentType))}
	switch {
	case reason != cluster.OK:
		c.Stats.UpstreamCxNoneHealthy.Inc()
	case w.Admits(p, c, h, prio, c.NameFor(m)):
		return h
	}
	c.Stats.Count(503, true)
	return nil
}

// Ready notes that it has a connection.
func (o *Own) Ready() {
	o.sent, o.ready = o.w.Loop.Now(), true
	o.report(cluster.ConnectOK)
}

// Informational counts an interim response.
func (o *Own) Informational(m *header.Map) {
	o.begun = true
	o.cluster.Stats.Count(m.StatusCode(), true)
}

// Headers counts the response.
func (o *Own) Headers(m *header.Map, end bool) {
	code := m.StatusCode()
	o.begun, o.headed = true, true
	o.loadTold = o.cluster.TakeReport(o.host, m, o.w.Loop.Time())
	o.cluster.Answered(o.host, code, o.grpc, m, o.w.Loop.Time())
	o.cluster.Stats.Count(code, true)
	o.untold = o.host.Count(code, o.grpc, m, end)
	if end {
		o.took()
	}
}

// End notes that the response is over, with its trailers; nil: it has none.
func (o *Own) End(trailers *header.Map) {
	if o.untold {
		o.host.CountEnd(trailers)
	}
	if trailers != nil && !o.loadTold {
		o.cluster.TakeReport(o.host, trailers, o.w.Loop.Time())
	}
	o.took()
}

func (o *Own) took() {
	o.cluster.Stats.Took(uint64((o.w.Loop.Now()-o.sent)/int64(time.Millisecond)), true)
}

// Lost counts a request that gets no connection, or loses it.
func (o *Own) Lost(l pool.Loss) {
	code, asked := 503, true
	switch l.Reset {
	case pool.ProtocolError:
		code = 502
	case pool.Overflow, pool.Shed:
		asked = false
	}
	if asked && l.Reset != pool.ActiveOverflow {
		o.report(cluster.ConnectFailed)
	}
	o.abort(code, asked)
}

// TimedOut counts a request whose time is up.
func (o *Own) TimedOut() {
	o.cluster.Stats.UpstreamRqTimeout.Inc()
	if !o.ready { // nobody is to blame while there is no connection
		o.cluster.Stats.Count(504, true)
		return
	}
	o.host.RqTimeout.Inc()
	if !o.headed {
		o.report(cluster.Timeout)
		o.abort(504, true)
	}
}

// abort counts the response that stands for one that does not come.
func (o *Own) abort(code int, asked bool) {
	if !o.begun {
		o.cluster.Stats.Count(code, true)
	}
	if asked && (!o.begun || o.untold) {
		o.host.RqError.Inc()
	}
}

func (o *Own) report(kind cluster.ResultKind) {
	o.cluster.Report(o.host, cluster.Result{Kind: kind}, o.w.Loop.Time())
}
