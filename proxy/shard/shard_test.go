package shard

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

var (
	start  = time.Date(2026, 11, 21, 7, 0, 0, 0, time.UTC)
	client = netip.MustParseAddrPort("10.0.0.9:5555")
	local  = netip.MustParseAddrPort("127.0.0.1:80")
	app1   = netip.MustParseAddrPort("10.0.0.1:80")
	app2   = netip.MustParseAddrPort("10.0.0.2:80")
	gone   = netip.MustParseAddrPort("10.0.0.3:80")
)

// A logLine collects access log lines.
type logLine struct {
	format *access.Format
	lines  []string
}

func (l *logLine) Log(_ int, r *access.Record) {
	if r.Type == access.DownstreamEnd || r.Type == access.TCPConnectionEnd || r.Type == access.NotSet {
		l.lines = append(l.lines, strings.TrimSuffix(string(l.format.Append(nil, r)), "\n"))
	}
}

func (l *logLine) last() string {
	if len(l.lines) == 0 {
		return "(no line)"
	}
	return l.lines[len(l.lines)-1]
}

// A bench is a proxy in memory: one listener, an application at app1 and app2 that answer as told.
type bench struct {
	*Memory
	t        testing.TB
	rt       *Runtime
	log      *logLine
	reg      *stats.Registry
	config   *stream.Config
	requests []string // what applications got, whole
	answer   func(b *bench, p *drive.Pipe, request string)
}

const logFormat = `%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% host=%UPSTREAM_HOST% cluster=%UPSTREAM_CLUSTER% route=%ROUTE_NAME% attempts=%UPSTREAM_REQUEST_ATTEMPT_COUNT%`

func newBench(t testing.TB, routes []route.RouteConfig, clusters ...cluster.Config) *bench {
	t.Helper()
	b := &bench{t: t, Memory: NewMemory(start), reg: stats.NewRegistry(false)}
	format, err := access.Compile(logFormat)
	if err != nil {
		t.Fatal(err)
	}
	b.log = &logLine{format: format}
	table, err := route.NewTable(route.Config{Name: "80", VirtualHosts: []route.VirtualHostConfig{{
		Name: "v", Domains: []string{"*"}, Routes: routes, AttemptCountInRequest: true,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	http, _ := b.reg.HTTP("in")
	b.config = &stream.Config{
		StatPrefix: "in", Stats: http, Logs: []listen.Log{b.log}, RouteName: "80", Expect100Here: true,
		Filters: []stream.Factory{fault.New(fault.Name, nil), router.New(router.Config{})}, Upgrades: []string{"websocket"},
		IdleTimeout: time.Hour,
	}
	b.rt = &Runtime{
		Listeners: []*listen.Config{{
			Name: "in", Version: "1", Addrs: []netip.AddrPort{local},
			Chains: []*listen.Chain{{Name: "c", Filter: b.config}}, Logs: []listen.Log{unserved{b.log}},
		}},
		Clusters: map[string]*cluster.Cluster{},
		Routes:   map[string]*route.Table{"80": table},
	}
	for _, cfg := range clusters {
		c, err := cluster.New(cfg, b.reg, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.rt.Clusters[cfg.Name] = c
	}
	if err := b.Apply(b.rt); err != nil {
		t.Fatal(err)
	}
	b.answer = func(b *bench, p *drive.Pipe, request string) {
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nserver: app\r\n\r\nok")
	}
	b.serve(app1)
	b.serve(app2)
	return b
}

func (b *bench) endpoints(name string, addrs ...netip.AddrPort) {
	var list []cluster.Endpoint
	for _, a := range addrs {
		list = append(list, cluster.Endpoint{Addr: a, Weight: 1})
	}
	b.rt.Clusters[name].SetEndpoints(list)
}

// serve runs an application that takes requests with and without content-length.
func (b *bench) serve(addr netip.AddrPort) {
	b.Handle(addr, func(p *drive.Pipe) {
		got := ""
		p.OnData = func(p *drive.Pipe) {
			got += p.Take()
			for {
				request, rest, ok := cut(got)
				if !ok {
					return
				}
				got = rest
				b.requests = append(b.requests, request)
				b.answer(b, p, request)
			}
		}
	})
}

// cut takes one whole request off the front.
func cut(s string) (request, rest string, ok bool) {
	head, body, found := strings.Cut(s, "\r\n\r\n")
	if !found {
		return "", s, false
	}
	lower := strings.ToLower(head)
	if i := strings.Index(lower, "content-length: "); i >= 0 {
		n := 0
		fmt.Sscanf(lower[i+16:], "%d", &n)
		if len(body) < n {
			return "", s, false
		}
		return head + "\r\n\r\n" + body[:n], body[n:], true
	}
	if strings.Contains(lower, "transfer-encoding: chunked") {
		i := strings.Index(body, "0\r\n")
		end := strings.Index(body[max(i, 0):], "\r\n\r\n")
		if i < 0 || end < 0 {
			return "", s, false
		}
		return head + "\r\n\r\n" + body[:i+end+4], body[i+end+4:], true
	}
	return head + "\r\n\r\n", body, true
}

func (b *bench) dial() *drive.Pipe { return b.Dial("in", client, local) }

// do sends a request on a new connection and returns the answer.
func (b *bench) do(request string) string {
	p := b.dial()
	p.WriteString(request)
	b.Step()
	return p.Take()
}

func get(path string, fields ...string) string {
	s := "GET " + path + " HTTP/1.1\r\nHost: a.b\r\n"
	for _, f := range fields {
		s += f + "\r\n"
	}
	return s + "\r\n"
}

func to(name string) route.RouteConfig {
	return route.RouteConfig{Name: name, Match: route.Match{Kind: route.PrefixPath, Path: "/"}, Forward: &route.ForwardConfig{Cluster: name}}
}

func static(name string) cluster.Config {
	return cluster.Config{Name: name, Kind: cluster.Static, Policy: lb.Policy{Kind: lb.RoundRobin}, Trailers: true}
}

func TestRequestAndResponse(t *testing.T) {
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
	b.endpoints("app", app1)
	got := b.do(get("/x", "X-Request-Id: abc"))
	want := "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nserver: envoy\r\nx-envoy-upstream-service-time: 0\r\ndate: Sat, 21 Nov 2026 07:00:00 GMT\r\n\r\nok"
	if got != want {
		t.Errorf("the client got\n%q\nwant\n%q", got, want)
	}
	if len(b.requests) != 1 {
		t.Fatalf("the application got %d requests, want 1", len(b.requests))
	}
	want = "GET /x HTTP/1.1\r\nhost: a.b\r\nx-request-id: abc\r\nx-forwarded-proto: http\r\nx-envoy-expected-rq-timeout-ms: 15000\r\nx-envoy-attempt-count: 1\r\n\r\n"
	if b.requests[0] != want {
		t.Errorf("the application got\n%q\nwant\n%q", b.requests[0], want)
	}
	if got, want := b.log.last(), `GET /x HTTP/1.1 200 - via_upstream "-" 0 2 host=10.0.0.1:80 cluster=app route=app attempts=1`; got != want {
		t.Errorf("log\n%s\nwant\n%s", got, want)
	}
}
