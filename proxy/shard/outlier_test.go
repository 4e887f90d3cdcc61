package shard

import (
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

// ejects is a cluster's detection that ejects as soon as so many errors follow each other, and any number of hosts.
func ejects(after uint32) *cluster.OutlierConfig {
	return &cluster.OutlierConfig{Consecutive5xx: ptr(after), MaxEjectionPercent: ptr(uint32(100))}
}

// ejected is how many hosts of a cluster are out.
func ejected(b *bench, name string) int64 {
	return b.rt.Clusters[name].Stats.Outlier.EjectionsActive.Value()
}

// told is what the first host of a cluster has counted.
func told(b *bench, name string) (ok, bad uint64) {
	h := b.rt.Clusters[name].Hosts().All[0]
	return h.RqSuccess.Value(), h.RqError.Value()
}

func TestErrorOfGRPCEjectsHost(t *testing.T) {
	c := static("app")
	c.Outlier = ejects(1)
	b, p, _ := answering(t, &route.ForwardConfig{Cluster: "app"}, "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n", c)
	p.WriteString("POST /s/m HTTP/1.1\r\nHost: a.b\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n")
	b.Step()
	if n := ejected(b, "app"); n != 1 {
		t.Errorf("%d hosts are ejected, want 1", n)
	}
	if ok, bad := told(b, "app"); ok != 0 || bad != 1 {
		t.Errorf("%d successes and %d errors are counted, want one error", ok, bad)
	}
}

func TestConnectionOfEachRequestCountsForSplitDetection(t *testing.T) {
	b := newTwo(t, cluster.Config{Outlier: &cluster.OutlierConfig{Split: true, ConsecutiveLocal: ptr(uint32(2)), MaxEjectionPercent: ptr(uint32(100))}},
		route.RouteConfig{Name: "r", Match: route.Match{Kind: route.PrefixPath, Path: "/"}, Forward: &route.ForwardConfig{Cluster: "app", Timeout: ptr(200 * time.Millisecond)}})
	n := 0
	b.reply = func(p *peer2, stream uint32, head map[string]string) {
		if n++; n == 1 || n == 5 {
			return // too late
		}
		p.headers(stream, true, ":status", "200")
	}
	c := b.client()
	for i := range 5 {
		c.get(uint32(2*i+1), "/x")
		b.Step()
		b.Advance(300 * time.Millisecond)
	}
	if len(b.upstreams) != 1 || n != 5 {
		t.Fatalf("%d requests on %d connections, want 5 on one", n, len(b.upstreams))
	}
	if b.rt.Clusters["app"].Stats.Outlier.EjectionsActive.Value() != 0 {
		t.Error("two timeouts with three answers between them are two in a row")
	}
}

func TestEachRequestThatWaitedForARefusedConnectionCounts(t *testing.T) {
	b := newTwo(t, cluster.Config{Outlier: ejects(5)})
	b.endpoints("app", gone)
	c := b.client()
	for i := range 5 {
		c.get(uint32(2*i+1), "/x")
	}
	b.Step()
	if b.rt.Clusters["app"].Stats.Outlier.EjectionsActive.Value() != 1 {
		t.Error("five requests have failed, and the host is there")
	}
}

func TestHostCountsRequestsThatFail(t *testing.T) {
	late := &route.ForwardConfig{Cluster: "app", Timeout: ptr(200 * time.Millisecond)}
	retried := &route.ForwardConfig{Cluster: "app", Retry: &route.RetryPolicy{On: route.Retry5xx, NumRetries: ptr(uint32(1))}}
	const head = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n"
	const call = "POST /s/m HTTP/1.1\r\nHost: a.b\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n"
	for name, tc := range map[string]struct {
		f             *route.ForwardConfig
		request, said string
		ok, bad       uint64
	}{
		"an answer":                       {late, get("/"), "HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", 1, 0},
		"an error":                        {late, get("/"), "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 0, 1},
		"an error that is tried again":    {retried, get("/"), "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", 0, 1},
		"no answer in time":               {late, get("/"), "", 0, 1},
		"an answer that does not end":     {late, get("/"), "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n", 1, 0},
		"a call that ends well":           {late, call, head + "0\r\ngrpc-status: 0\r\n\r\n", 1, 0},
		"a call that ends badly":          {late, call, head + "0\r\ngrpc-status: 14\r\n\r\n", 0, 1},
		"a call that does not say how":    {late, call, head + "0\r\n\r\n", 0, 1},
		"a call whose client is at fault": {late, call, head + "0\r\ngrpc-status: 3\r\n\r\n", 1, 0},
	} {
		b, p, _ := answering(t, tc.f, tc.said, static("app"))
		p.WriteString(tc.request)
		b.Step()
		if tc.f == late {
			b.Advance(300 * time.Millisecond)
		}
		if ok, bad := told(b, "app"); ok != tc.ok || bad != tc.bad {
			t.Errorf("%s: %d successes and %d errors, want %d and %d", name, ok, bad, tc.ok, tc.bad)
		}
	}
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
	b.endpoints("app", gone)
	b.do(get("/"))
	if ok, bad := told(b, "app"); ok != 0 || bad != 1 {
		t.Errorf("a refused connection: %d successes and %d errors, want one error", ok, bad)
	}
}

// mirrored is a bench whose requests go to app, and as copies to a cluster of which the first error ejects a host.
func mirrored(t *testing.T, timeout time.Duration) *bench {
	copies := static("copies")
	copies.Outlier = ejects(1)
	b := newBench(t, []route.RouteConfig{{Name: "r", Match: route.Match{Kind: route.PrefixPath, Path: "/"}, Forward: &route.ForwardConfig{
		Cluster: "app", Timeout: ptr(timeout), Mirrors: []route.MirrorConfig{{Cluster: "copies"}}}}}, static("app"), copies)
	b.endpoints("app", app1)
	b.endpoints("copies", app2)
	return b
}

func TestMirrorsCountForTheirHosts(t *testing.T) {
	for name, prepare := range map[string]func(*bench){
		"an error": func(b *bench) {
			b.answer = func(_ *bench, p *drive.Pipe, _ string) {
				p.WriteString("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
			}
		},
		"no answer in time":    func(b *bench) { b.answer = func(*bench, *drive.Pipe, string) {} },
		"a refused connection": func(b *bench) { b.endpoints("copies", gone) },
	} {
		b := mirrored(t, 200*time.Millisecond)
		prepare(b)
		p := b.dial()
		p.WriteString(get("/"))
		b.Step()
		b.Advance(300 * time.Millisecond)
		if n := ejected(b, "copies"); n != 1 {
			t.Errorf("%s: %d hosts of the mirror are ejected, want 1", name, n)
		}
		if ok, bad := told(b, "copies"); ok != 0 || bad != 1 {
			t.Errorf("%s: %d successes and %d errors, want one error", name, ok, bad)
		}
		if n := b.rt.Clusters["copies"].Stats.InternalRq.Class(5); n != 1 {
			t.Errorf("%s: %d responses of 5xx are counted, want 1", name, n)
		}
	}
}
