package shard

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stream"
)

// Whatever the order in which clients, hosts, filters, times and configurations do something, each request has one line in the log, an answer
// is one to the request that it is told for, and in the end nothing counts as going on.
func TestOrdersOfChance(t *testing.T) {
	eachOrder(t, func(t *testing.T, seed uint64) { newChance(t, seed).play(200) })
}

// eachOrder plays 500 orders, or as many as ORDERS says, from ORDERS_FROM on.
func eachOrder(t *testing.T, play func(*testing.T, uint64)) {
	runs, first := 500, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("ORDERS")); err == nil {
		runs = n
	}
	if n, err := strconv.ParseUint(os.Getenv("ORDERS_FROM"), 10, 64); err == nil {
		first = n
	}
	for seed := first; seed < first+uint64(runs); seed++ {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { play(t, seed) }) {
			return
		}
	}
}

// A chance is a bench at which everything happens in an order of chance.
type chance struct {
	*bench
	*rand.Rand
	asked    int
	clients  []*chanceClient
	clients2 []*chanceClient2
	hosts    []*chanceHost
	hosts2   []*chanceHost2
	held     []func()
	configs  map[string]cluster.Config
	clusters []*cluster.Cluster // all that there ever were
	states   map[*cluster.State]bool
}

var (
	app3 = netip.MustParseAddrPort("10.0.0.4:80")
	app4 = netip.MustParseAddrPort("10.0.0.5:80")
)

func newChance(t *testing.T, seed uint64) *chance {
	w := &chance{Rand: rand.New(rand.NewPCG(seed, 0)), states: map[*cluster.State]bool{}, configs: map[string]cluster.Config{}}
	some := func(n int) *uint32 { return ptr(uint32(1 + w.IntN(n))) }
	limits := cluster.Limits{}
	if w.IntN(2) == 0 {
		limits = cluster.Limits{Connections: some(4), Pending: some(4), Requests: some(8), Retries: some(3)}
	}
	for _, c := range []cluster.Config{static("app"), static("two"), static("copies")} {
		c.Breakers[0], c.HTTP2 = limits, c.Name == "two"
		if w.IntN(3) == 0 {
			c.MaxRequestsPerConnection = *some(3)
		}
		if w.IntN(2) == 0 {
			c.BufferLimit = 1 + uint32(w.IntN(4000))
		}
		if w.IntN(3) == 0 {
			c.MaxStreamDuration = time.Duration(w.IntN(2000)) * time.Millisecond
		}
		if w.IntN(3) == 0 {
			c.Preconnect = 1 + 2*w.Float64()
		}
		if w.IntN(3) == 0 {
			c.Outlier = ejects(*some(3))
		}
		w.configs[c.Name] = c
	}
	retry := func(n uint32) *route.RetryPolicy {
		return &route.RetryPolicy{On: route.Retry5xx | route.RetryReset | route.RetryConnectFailure, NumRetries: &n, PerTryTimeout: 200 * time.Millisecond, PreviousHosts: w.IntN(2) == 0, HostAttempts: 3,
			PerTryIdle: time.Duration(w.IntN(2)*w.IntN(500)) * time.Millisecond}
	}
	timeout := ptr(3 * time.Second)
	var routes []route.RouteConfig
	for _, name := range []string{"app", "two"} {
		routes = append(routes,
			prefix(name+"-plain", "/"+name+"/plain", &route.ForwardConfig{Cluster: name, Timeout: timeout}),
			prefix(name+"-retry", "/"+name+"/retry", &route.ForwardConfig{Cluster: name, Timeout: timeout, Retry: retry(2)}),
			prefix(name+"-hedge", "/"+name+"/hedge", &route.ForwardConfig{Cluster: name, Timeout: timeout, Retry: retry(2), Hedge: ptr(true)}),
			prefix(name+"-copies", "/"+name+"/copies", &route.ForwardConfig{Cluster: name, Timeout: timeout, Mirrors: []route.MirrorConfig{{Cluster: "copies"}}}),
			prefix(name+"-follow", "/"+name+"/follow", &route.ForwardConfig{Cluster: name, Timeout: timeout, Follow: &route.FollowPolicy{Max: 2, Codes: []int{302}, CrossScheme: true}}),
		)
	}
	w.bench = newBench(t, routes, w.configs["app"], w.configs["two"], w.configs["copies"])
	filters := w.config.Filters
	w.config.Filters = []stream.Factory{filters[0], &holds{w, true}, &holds{w, false}, filters[1]}
	w.config.StreamIdle, w.config.MaxStream = 10*time.Second, time.Minute
	if w.IntN(2) == 0 {
		w.config.MaxStream, w.config.RequestTimeout, w.config.HeadersTimeout = 3*time.Second, 2*time.Second, time.Second
		w.config.MaxAge, w.config.SoftAge = 10*time.Second, w.IntN(2) == 0
	}
	if w.IntN(3) == 0 {
		w.config.MaxRequests = 1 + w.IntN(3)
		w.config.HTTP2.MaxConcurrentStreams = *some(3)
	}
	if w.IntN(3) == 0 {
		w.rt.Listeners[0].BufferLimit = 1 + w.IntN(6000)
	}
	w.Handle(app1, w.host)
	w.Handle(app2, w.host)
	w.Handle(app3, w.host2)
	w.Handle(app4, w.host2)
	for _, c := range w.rt.Clusters {
		w.clusters = append(w.clusters, c)
	}
	w.endpoints("copies", app2)
	w.move("app")
	w.move("two")
	return w
}

// move gives a cluster other hosts.
func (w *chance) move(name string) {
	c := w.rt.Clusters[name]
	if c == nil {
		return
	}
	of := map[string][]netip.AddrPort{"app": {app1, app2, gone}, "two": {app3, app4, gone}, "copies": {app2}}[name]
	var list []netip.AddrPort
	for _, a := range of {
		if w.IntN(4) > 0 {
			list = append(list, a)
		}
	}
	w.endpoints(name, list...)
	for _, h := range c.Hosts().All {
		w.states[h.State] = true
	}
}

// replace puts another configuration in force, of which a cluster is another one, or gone.
func (w *chance) replace(name string) {
	next := &Runtime{Listeners: w.rt.Listeners, Routes: w.rt.Routes, Clusters: maps.Clone(w.rt.Clusters)}
	old := next.Clusters[name]
	if old != nil && w.IntN(3) == 0 {
		delete(next.Clusters, name)
		old.Close()
	} else {
		cfg := w.configs[name]
		cfg.IdleTimeout = ptr(time.Duration(1+w.IntN(100)) * time.Second)
		c, err := cluster.New(cfg, w.reg, old)
		if err != nil {
			w.t.Fatal(err)
		}
		if old != nil {
			old.Close()
		}
		next.Clusters[name] = c
		w.clusters = append(w.clusters, c)
	}
	w.rt = next
	if err := w.Apply(next); err != nil {
		w.t.Fatal(err)
	}
	if old == nil {
		w.move(name)
	}
}

// relisten puts another version of the listener in force: its connections are to end.
func (w *chance) relisten() {
	old := w.rt.Listeners[0]
	l := clone(w.bench, old.Chains[0], old.Version+"1")
	l.BufferLimit = old.BufferLimit
	next := &Runtime{Listeners: []*listen.Config{l}, Routes: w.rt.Routes, Clusters: w.rt.Clusters}
	w.rt = next
	if err := w.Apply(next); err != nil {
		w.t.Fatal(err)
	}
}

func pick[T any](w *chance, list []T) (one T) {
	if len(list) > 0 {
		one = list[w.IntN(len(list))]
	}
	return one
}

// play has so many things happen, and looks whether all is as it was.
func (w *chance) play(n int) {
	for range n {
		switch w.IntN(20) {
		case 0:
			c := &chanceClient{w: w, p: w.dial()}
			if w.IntN(3) == 0 {
				c.p.Window = 1 + w.IntN(2000)
			}
			w.clients = append(w.clients, c)
		case 1:
			w.clients2 = append(w.clients2, &chanceClient2{w: w, peer: newPeer2(w.dial(), false, w.settings()...), next: 1})
		case 2, 3, 4, 5:
			if c := pick(w, w.clients); c != nil {
				c.act()
			}
		case 6, 7, 8:
			if c := pick(w, w.clients2); c != nil {
				c.act()
			}
		case 9, 10, 11, 12:
			if h := pick(w, w.hosts); h != nil {
				h.act()
			}
		case 13, 14, 15:
			if h := pick(w, w.hosts2); h != nil {
				h.act()
			}
		case 16, 17:
			w.release()
		case 18:
			w.Advance(time.Duration(w.IntN(1<<w.IntN(16))) * time.Millisecond)
		default:
			name := []string{"app", "two", "copies"}[w.IntN(3)]
			switch w.IntN(8) {
			case 0:
				w.replace(name)
			case 1:
				reset(func(f func(*one)) { f(w.one) }, 1<<w.IntN(14), int64(w.IntN(20000)))
			case 2:
				w.relisten()
			default:
				w.move(name)
			}
		}
		if w.IntN(3) > 0 { // otherwise it comes together with the next
			w.Step()
		}
	}
	w.over()
}

func (w *chance) release() {
	if len(w.held) > 0 {
		i := w.IntN(len(w.held))
		f := w.held[i]
		w.held = slices.Delete(w.held, i, i+1)
		f()
	}
}

// over ends everything, and looks what is left.
func (w *chance) over() {
	for len(w.held) > 0 {
		w.release()
		w.Step()
	}
	if w.IntN(2) == 0 {
		w.Advance(5 * time.Second)
	}
	for _, c := range w.clients {
		for had := -1; had != len(c.got); {
			had = len(c.got)
			c.take()
			w.Step()
		}
		c.check()
		c.p.Reset()
	}
	for _, c := range w.clients2 {
		c.check()
		c.peer.p.Reset()
	}
	w.Step()
	for len(w.held) > 0 {
		w.release()
		w.Step()
	}
	w.Advance(time.Minute) // copies have their own times
	st := w.config.Stats
	for what, n := range map[string]int64{"downstream_rq_active": st.DownstreamRqActive.Value(), "downstream_cx_active": st.DownstreamCxActive.Value(), "bytes of copies": int64(w.Worker.Shadows)} {
		if n != 0 {
			w.t.Errorf("%s is %d in the end", what, n)
		}
	}
	if total := st.DownstreamRqTotal.Value(); total != uint64(len(w.log.lines)) {
		w.t.Errorf("%d requests have %d lines in the log", total, len(w.log.lines))
	}
	for _, p := range w.hosts {
		p.p.Reset()
	}
	for _, p := range w.hosts2 {
		p.peer.p.Reset()
	}
	w.Advance(10 * time.Second)
	w.nothingLeft()
	if w.t.Failed() {
		w.t.Log(strings.Join(w.log.lines, "\n"))
	}
}

// nothingLeft looks whether all clusters and hosts are as if nothing had been.
func (w *chance) nothingLeft() {
	for i, c := range w.clusters {
		l := c.Limit(cluster.Default)
		for what, n := range map[string]int64{
			"upstream_rq_active": c.Stats.UpstreamRqActive.Value(), "upstream_rq_pending_active": c.Stats.UpstreamRqPendingActive.Value(), "upstream_cx_active": c.Stats.UpstreamCxActive.Value(),
			"connections in use": l.Connections.Used(), "places to wait in use": l.Pending.Used(), "requests in use": l.Requests.Used(), "retries in use": l.Retries.Used(), "pools in use": l.Pools.Used(),
		} {
			if n != 0 {
				w.t.Errorf("cluster %d, %s: %s is %d in the end", i, c.Name, what, n)
			}
		}
	}
	for s := range w.states {
		if s.Active.Load() != 0 || s.Pending.Value() != 0 || s.Connections.Value() != 0 {
			w.t.Errorf("a host has %d requests, %d that wait and %d connections in the end", s.Active.Load(), s.Pending.Value(), s.Connections.Value())
		}
	}
}

func (w *chance) path() (path, id string) {
	w.asked++
	id = "id" + strconv.Itoa(w.asked)
	return "/" + []string{"app", "two"}[w.IntN(2)] + "/" + []string{"plain", "retry", "hedge", "copies", "follow"}[w.IntN(5)], id
}

// holds are filters that hold messages, and pieces of them, for as long as chance says, or answer.
type holds struct {
	w    *chance
	data bool
}

func (f *holds) Name() string { return fmt.Sprint("holds", f.data) }

func (f *holds) New(*pool.Worker) any {
	if f.data {
		return &dataHolder{holder{w: f.w}}
	}
	return &holder{w: f.w}
}

type holder struct{ w *chance }

// until has a message go on later; request says which.
func (f *holder) until(s *stream.Stream, request bool) stream.Verdict {
	gen := s.Generation()
	answer := f.w.IntN(6) == 0
	f.w.held = append(f.w.held, func() {
		f.w.Loop.Post(func() {
			switch {
			case s.Generation() != gen:
			case answer:
				s.Reply(418, "held", "held")
			case request:
				s.ProceedRequest()
			default:
				s.ProceedResponse()
			}
		})
	})
	return stream.Stop
}

func (f *holder) OnRequest(s *stream.Stream, _ *header.Map) stream.Verdict {
	switch f.w.IntN(20) {
	case 0:
		return f.until(s, true)
	case 1:
		return s.CollectRequest(5000)
	case 2:
		return s.Reply(403, "no", "denied")
	}
	return stream.Continue
}

func (f *holder) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	switch f.w.IntN(20) {
	case 0:
		return f.until(s, false)
	case 1:
		return s.CollectResponse(1000, false)
	case 2:
		return s.Reply(418, "instead", "instead")
	case 3:
		m.Remove(header.Status)
	}
	return stream.Continue
}

type dataHolder struct{ holder }

func (f *dataHolder) OnRequestData(s *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	switch f.w.IntN(20) {
	case 0:
		return f.until(s, true)
	case 1:
		return s.Reply(413, "much", "much")
	case 2:
		return f.taken(s, b, end, func(own []byte) { s.InjectRequest(f, own, end) })
	case 3:
		gen := s.Generation()
		s.PauseRequest()
		f.w.held = append(f.w.held, func() {
			if s.Generation() == gen {
				s.UnpauseRequest()
			}
		})
	}
	return stream.Continue
}

func (f *dataHolder) OnResponseData(s *stream.Stream, b *stream.Buffer, end bool) stream.Verdict {
	switch f.w.IntN(20) {
	case 0:
		return f.until(s, false)
	case 1:
		return f.taken(s, b, end, func(own []byte) { s.InjectResponse(f, own, end) })
	case 2:
		gen := s.Generation()
		s.PauseResponse()
		f.w.held = append(f.w.held, func() {
			if s.Generation() == gen {
				s.ResumeResponse()
			}
		})
	}
	return stream.Continue
}

// taken keeps a piece that is the last one, and passes it on later: what came behind another would overtake it.
func (f *dataHolder) taken(s *stream.Stream, b *stream.Buffer, end bool, inject func([]byte)) stream.Verdict {
	if !end {
		return stream.Continue
	}
	gen, own := s.Generation(), slices.Clone(b.Bytes)
	f.w.held = append(f.w.held, func() {
		f.w.Loop.Post(func() {
			if s.Generation() == gen {
				inject(own)
			}
		})
	})
	return stream.Taken
}
