package shard

import (
	"bytes"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/fault"
	"github.com/mallamesh/malla/proxy/filter/headermutation"
	"github.com/mallamesh/malla/proxy/filter/peer"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/filter/upstream"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A bufferLog formats lines as the sink does, into a buffer that somebody else would write.
type bufferLog struct {
	format *access.Format
	buf    []byte
	lines  int
}

func (l *bufferLog) Log(_ int, r *access.Record) {
	l.buf = l.format.Append(l.buf[:0], r)
	l.lines++
}

// An istioLog counts as the istio.stats filter does.
type istioLog struct{ cache *stats.Cache }

func (l *istioLog) Log(_ int, r *access.Record) {
	s := l.cache.HTTP(stats.Key{Peer: r.Peer, Destination: r.Destination, Flags: uint64(r.Flags), Code: r.Code, GRPCStatus: -1})
	s.Requests.Inc()
	s.Duration.Record(uint64(r.Duration() / time.Millisecond))
	s.RequestBytes.Record(r.BytesReceived)
	s.ResponseBytes.Record(r.BytesSent)
}

// sidecar is a bench that does what a sidecar does to every request.
func sidecar(t testing.TB) (*bench, *drive.Pipe) {
	b := newBench(t, []route.RouteConfig{prefix("app", "/", &route.ForwardConfig{Cluster: "app", Retry: istioRetry})}, static("app"))
	b.endpoints("app", app1)
	format, ok := access.Named("istio")
	if !ok {
		t.Fatal("no format")
	}
	metrics := stats.NewIstio(stats.IstioOptions{Flags: func(f uint64) string { return access.Flags(f).String() }})
	b.config.Logs = []listen.Log{&bufferLog{format: format}, &istioLog{metrics.NewCache()}}
	b.config.UseRemoteAddress = true
	b.config.NormalizePath = true
	b.config.Tracing = &stream.Tracing{Client: 100, Random: 1, Overall: 100}
	own := stats.Peer{Workload: "productpage-v1", Namespace: "default", App: "productpage", Version: "v1"}
	b.config.Filters = []stream.Factory{peer.New(peer.Config{ID: "sidecar~10.0.0.9~a.b~c", Own: &own, Intern: metrics.Peer}), fault.New(fault.Name, nil), router.New(router.Config{})}
	response := []byte("HTTP/1.1 200 OK\r\ncontent-length: 45\r\ncontent-type: text/plain\r\nserver: nginx\r\n\r\nhello from the backend, this is a small body\n")
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			p.In = p.In[:0]
			p.Write(response)
		}
	})
	return b, b.dial()
}

var wrkRequest = []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1:5701\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n")

// wantNoAllocs sends the same request over and over, 1,100 times.
func wantNoAllocs(t *testing.T, b *bench, p *drive.Pipe) {
	t.Helper()
	request := func() {
		p.Write(wrkRequest)
		b.Step()
		p.In = p.In[:0]
	}
	for range 100 {
		request()
	}
	if n := testing.AllocsPerRun(1000, request); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
}

// A request in steady state allocates nothing, with access log and Istio's metrics on.
func TestRequestDoesNotAllocate(t *testing.T) {
	b, p := sidecar(t)
	wantNoAllocs(t, b, p)
	if got := b.config.Logs[0].(*bufferLog); got.lines < 1100 {
		t.Errorf("%d log lines, want one per request", got.lines)
	}
}

// Upstream filters are made once for each try that a stream in stock can have.
func TestUpstreamFiltersDoNotAllocate(t *testing.T) {
	b, p := sidecar(t)
	mutations, err := route.NewMutations([]route.Mutation{{Append: &route.HeaderValue{Name: "x-way", Value: "up"}}})
	if err != nil {
		t.Fatal(err)
	}
	c := headermutation.Config{Request: mutations, Response: mutations}
	chain := &upstream.Chain{Factories: []stream.Factory{headermutation.New("mutation", &c, false)}}
	b.config.Filters = []stream.Factory{router.New(router.Config{Upstream: chain})}
	seen := 0
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			seen += bytes.Count(p.In, []byte("x-way: up"))
			p.In = p.In[:0]
			p.Write([]byte("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"))
		}
	})
	wantNoAllocs(t, b, p)
	if seen < 1100 {
		t.Errorf("%d requests came changed, want all", seen)
	}
}

func BenchmarkRequest(b *testing.B) {
	bench, p := sidecar(b)
	for b.Loop() {
		p.Write(wrkRequest)
		bench.Step()
		p.In = p.In[:0]
	}
}

// A bulk of bytes passes through buffers that are used again: it is written while it comes.
func TestBulkDoesNotAllocate(t *testing.T) {
	b, p := sidecar(t)
	response := append([]byte("HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n"), make([]byte, 400000)...)
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			p.In = p.In[:0]
			p.Write(response)
		}
	})
	request := func() {
		p.Write(wrkRequest)
		b.Step()
		if len(p.In) < 400000 {
			t.Fatalf("%d bytes came", len(p.In))
		}
		p.In = p.In[:0]
	}
	for range 10 {
		request()
	}
	if n := testing.AllocsPerRun(100, request); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
}
