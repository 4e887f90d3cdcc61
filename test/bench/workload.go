package main

// A workload is one kind of work that all contestants do in turns. The table of
// them is all that this program knows of any single one.
type workload struct {
	part, name string
	way        []link   // the listeners of the proxy; the load goes to the first
	backend    backend  // behind the listener that leads to no other
	peers      []string // those that can do it, besides "direct"
	load       load
	per        string  // what is counted
	round      float64 // seconds
	rounds     int     // 0: 5
	sizes      []size  // of the configuration; none: one of ordinary size
	fresh      bool    // each round begins with new processes
	mirrored   bool    // what the second size costs more than the first is little, and both are one process; see mirror
	paired     bool    // the same of every size but the first; see pairs
	promises   []promise
}

// A link is a listener and the cluster that all its requests go to.
type link struct {
	name    string
	in, out end
	next    string // the listener behind; empty: the backend
	cluster string // more fields of the cluster
	filter  string // HTTP filters before the router
	gate    string // network filters before the last
	limits  string // more fields of the virtual host
}

// An end is what is spoken at one end of a link.
type end struct {
	Speaks string // h1, h2 or tcp
	TLS    bool   // mutual, P-256 certificates
	Curve  string // key exchange, where not each proxy's own default
}

var (
	h1  = end{Speaks: "h1"}
	h2  = end{Speaks: "h2"}
	tcp = end{Speaks: "tcp"}
)

// tls is the same in mutual TLS.
func (e end) tls() end { e.TLS = true; return e }

func (e end) curve(name string) end { e.Curve = name; return e }

func one(in, out end) []link { return []link{{name: "in", in: in, out: out}} }

// pair is what two sidecars do, in one process: plain in, mutual TLS between, plain out.
func pair(e end) []link {
	return []link{
		{name: "client", in: e, out: e.tls(), next: "server"},
		{name: "server", in: e.tls(), out: e},
	}
}

// A size is how much configuration there is, and what is then asked for.
type size struct {
	name                     string
	hosts, prefixes, workers int
	regexes                  int      // routes that do not match, before the others
	host, path               string   // the last ones, which who looks through a list finds last
	headers                  []string // of requests over HTTP/2
	body                     string   // of them; empty: they have none
	copies                   int      // of the filter or gate of its listener
	entry                    string   // the listener that the load goes to; empty: the first
}

// A promise is a value that a workload gives, and what it must be.
type promise struct {
	what       string
	of         func(*contest) series // by round
	must, goal float64
	atLeast    bool
	unit       string
	noisy      func(*contest) bool                  // the machine may not allow a verdict
	between    func(*contest) (least, most float64) // where the value lies, as far as the rounds tell: a verdict needs must to be outside
}

const (
	malla   = "malla-proxy"
	envoy   = "Envoy"
	nginx   = "nginx"
	haproxy = "HAProxy"
)

var (
	everybody = []string{malla, envoy, nginx, haproxy}
	h2Proxies = []string{malla, envoy, haproxy} // nginx speaks HTTP/2 to clients only
	sameFile  = []string{malla, envoy}
)

// workloads in the order in which they run, with what the project promises of each.
var workloads = []workload{
	{
		part: "h1", name: "HTTP/1.1, 64 connections", way: one(h1, h1), backend: web, peers: everybody, load: wrk{64}, per: "request", round: 2,
		promises: []promise{costOf(envoy, 0.5, 0.4), costOf(nginx, 1.15, 1), costOf(haproxy, 1.15, 1)},
	},
	{
		part: "h2", name: "HTTP/2, 8 connections of 16 streams", way: one(h2, h2), backend: web2, peers: h2Proxies, load: h2load{conns: 8, streams: 16}, per: "request", round: 1.5,
		promises: []promise{costOf(envoy, 0.3, 0.15), costOf(haproxy, 1, 0.7)},
	},
	{
		part: "h2", name: "HTTP/2, 64 connections of 1 stream", way: one(h2, h2), backend: web2, peers: h2Proxies, load: h2load{conns: 64, streams: 1}, per: "request", round: 1.5,
		promises: []promise{costOf(envoy, 0.4, 0.3), costOf(haproxy, 1.1, 0.9)},
	},
	{
		part: "grpc", name: "gRPC unary with trailers, 8 connections of 16 streams", way: one(h2, h2), backend: grpc, peers: h2Proxies,
		load: h2load{conns: 8, streams: 16, grpc: true}, per: "request", round: 1.5,
		promises: []promise{costOf(envoy, 0.3, 0.15)},
	},
	{
		part: "bodies", name: "HTTP/2, bodies of 100 KB, 8 connections of 4 streams", way: one(h2, h2), backend: web2, peers: h2Proxies,
		load: h2load{conns: 8, streams: 4, path: largePath}, per: "request", round: 1.5,
		promises: []promise{costOf(envoy, 0.6, 0.5)},
	},
	{
		part: "bridge", name: "HTTP/1.1 to HTTP/2, 64 connections", way: one(h1, h2), backend: web2, peers: h2Proxies, load: wrk{64}, per: "request", round: 1,
		promises: []promise{costOf(envoy, 0.5, 0.3)},
	},
	{
		part: "bridge", name: "HTTP/2 to HTTP/1.1, 8 connections of 16 streams", way: one(h2, h1), backend: web, peers: everybody, load: h2load{conns: 8, streams: 16}, per: "request", round: 1.5,
		promises: []promise{costOf(envoy, 0.5, 0.3)},
	},
	{
		part: "mtls", name: "sidecar pair, plain to mTLS to plain, HTTP/1.1, 64 connections", way: pair(h1), backend: web, peers: everybody, load: wrk{64}, per: "request", round: 2,
		promises: []promise{costOf(envoy, 0.5, 0.35), costOf(haproxy, 1.1, 0.9)},
	},
	{
		part: "mtls", name: "sidecar pair, plain to mTLS to plain, HTTP/2, 8 connections of 16 streams", way: pair(h2), backend: web2, peers: h2Proxies,
		load: h2load{conns: 8, streams: 16}, per: "request", round: 1.5,
		promises: []promise{costOf(envoy, 0.5, 0.35), costOf(haproxy, 1.1, 0.9)},
	},
	{
		part: "tcp", name: "TCP, bulk, 4 connections", way: one(tcp, tcp), backend: stream, peers: everybody, load: helper{kind: "drain", conns: 4}, per: "MB", round: 1.5,
		promises: []promise{perCPU(envoy, 1.4, 1.7)},
	},
	{
		part: "tcp", name: "TCP, round trips of 100 bytes, 16 connections", way: one(tcp, tcp), backend: stream, peers: everybody, load: helper{kind: "echo", conns: 16}, per: "round trip", round: 1.5,
		promises: []promise{costOf(envoy, 1.1, 0.9)},
	},
	{
		part: "handshake", name: "full mTLS handshakes, P-256", way: one(h1.tls().curve("P-256"), h1), backend: web, peers: everybody,
		load: helper{kind: "handshake", conns: 4, curve: "P-256"}, per: "handshake", round: 1.5,
		promises: []promise{perCPU(envoy, 0.85, 1)},
	},
	{
		part: "handshake", name: "full mTLS handshakes, each proxy's default", way: one(h1.tls(), h1), backend: web, peers: everybody,
		load: helper{kind: "handshake", conns: 4}, per: "handshake", round: 1.5,
		promises: []promise{perCPU(envoy, 0.7, 0.85)},
	},
	{
		part: "latency", name: "HTTP/1.1 at 2,000 requests/s, open loop", way: one(h1, h1), backend: web, peers: everybody, load: helper{kind: "pace", conns: 64, rate: 2000}, per: "request", round: 6, // so long that the p99 has 100 requests beyond it
		promises: []promise{added(p50, 0.8, 0.5), added(p99, 0.8, 0.5)},
	},
	{
		part: "memory", name: "resident memory", way: []link{{name: "plain", in: h1, out: h1}, {name: "tls", in: h1.tls(), out: h1}}, backend: web, peers: everybody,
		load: hold{plain: 4000, tls: 1000}, fresh: true,
		promises: []promise{
			{what: "idle", of: func(c *contest) series { return c.of(malla, 0, idle) }, must: 28, goal: 20, unit: " MB"},
			ratio("per idle HTTP/1.1 connection, of Envoy's", perPlain, envoy, 0.5, 0.1),
			ratio("per idle TLS connection, of Envoy's", perTLS, envoy, 1.3, 1),
		},
	},
	{
		part: "routes", name: "10 to 10,000 virtual hosts", way: one(h1, h1), backend: web, peers: sameFile, load: wrk{64}, per: "request", round: 1,
		sizes:    []size{{name: "10 hosts", hosts: 10, host: "h9.example"}, {name: "10,000 hosts", hosts: 10000, host: "h9999.example"}},
		promises: []promise{growth(1.2, 1.1)},
	},
	{
		part: "routes", name: "10 to 1,000 prefix routes", way: one(h1, h1), backend: web, peers: sameFile, load: wrk{64}, per: "request", round: 1,
		sizes:    []size{{name: "10 routes", prefixes: 10, path: "/p9/small"}, {name: "1,000 routes", prefixes: 1000, path: "/p999/small"}},
		promises: []promise{growth(1.2, 1.1)},
	},
	{
		part: "routes", name: "20 regular expressions before a prefix", way: one(h1, h1), backend: web, peers: sameFile, load: wrk{64}, per: "request", round: 1,
		sizes: []size{{name: "no expression", prefixes: 10, path: "/p9/small"}, {name: "20 expressions", regexes: 20, prefixes: 10, path: "/p9/small"}},
		promises: []promise{{what: "CPU with expressions, of Envoy's", must: 0.5, goal: 0.4,
			of: func(c *contest) series { return c.of(malla, 1, cpu).over(c.of(envoy, 1, cpu)) }}},
	},
	{
		part: "workers", name: "two workers against one, HTTP/1.1", way: one(h1, h1), backend: web, peers: sameFile, load: wrk{64}, per: "request", round: 1,
		sizes: []size{{name: "1 worker", workers: 1}, {name: "2 workers", workers: 2}},
		promises: []promise{growth(1.35, 1.2),
			{what: "growth of CPU, of Envoy's growth", of: func(c *contest) series { return c.growth(malla).over(c.growth(envoy)) }, must: 1, goal: 1}},
	},
	safeguardWork(),
}

func init() {
	workloads = append(append(workloads, filterWorks()...), decompressorWork(), rateLimitWork(), gateWork())
}

// costOf promises processor time per piece of work, of a peer's.
func costOf(peer string, must, goal float64) promise {
	return ratio("CPU, of "+peer+"'s", cpu, peer, must, goal)
}

// ratio promises how much of a peer's value ours is.
func ratio(what string, m metric, peer string, must, goal float64) promise {
	return promise{what: what, of: func(c *contest) series { return c.of(malla, 0, m).over(c.of(peer, 0, m)) }, must: must, goal: goal}
}

// perCPU promises work per processor time, of a peer's.
func perCPU(peer string, must, goal float64) promise {
	return promise{what: "work per CPU-second, of " + peer + "'s", of: func(c *contest) series { return c.of(peer, 0, cpu).over(c.of(malla, 0, cpu)) },
		must: must, goal: goal, atLeast: true}
}

// added promises what a proxy adds to a latency, of what Envoy adds.
func added(m metric, must, goal float64) promise {
	of := func(c *contest) series {
		direct := c.of(direct, 0, m)
		return c.of(malla, 0, m).minus(direct).over(c.of(envoy, 0, m).minus(direct))
	}
	return promise{what: "added " + m.String() + ", of Envoy's", must: must, goal: goal, noisy: (*contest).noisy, of: of,
		between: func(c *contest) (float64, float64) { return of(c).between() }}
}

// growth promises how much dearer a piece of work is with the second size.
func growth(must, goal float64) promise {
	return promise{what: "growth of CPU", of: func(c *contest) series { return c.growth(malla) }, must: must, goal: goal}
}
