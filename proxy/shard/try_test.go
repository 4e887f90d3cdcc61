package shard

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

// answering is a host that answers the first thing it is told with this and no more, and a client.
func answering(t *testing.T, f *route.ForwardConfig, first string, c cluster.Config) (b *bench, client *drive.Pipe, host **drive.Pipe) {
	b = newBench(t, []route.RouteConfig{{Name: "r", Match: route.Match{Kind: route.PrefixPath, Path: "/"}, Forward: f}}, c)
	b.endpoints("app", app1)
	host = new(*drive.Pipe)
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			p.Take()
			if *host != p {
				*host = p
				p.WriteString(first)
			}
		}
	})
	return b, b.dial(), host
}

// perTry is a policy whose tries have 200 ms.
func perTry() *route.ForwardConfig {
	return &route.ForwardConfig{Cluster: "app", Retry: &route.RetryPolicy{On: route.Retry5xx, NumRetries: ptr(uint32(1)), PerTryTimeout: 200 * time.Millisecond}}
}

func TestTimeOfTryIsNotOfResponseBegunBeforeRequestEnds(t *testing.T) {
	b, p, host := answering(t, perTry(), "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", static("app"))
	p.WriteString("POST / HTTP/1.1\r\nHost: a.b\r\ncontent-length: 4\r\n\r\nab")
	b.Step()
	p.Take()
	p.WriteString("cd")
	b.Step()
	b.Advance(300 * time.Millisecond)
	(*host).WriteString("defghij")
	b.Step()
	if got := p.Take(); got != "defghij" {
		t.Errorf("the client got %q of the rest, want %q; log %s", got, "defghij", b.log.last())
	}
}

func TestTimeOfTryIsNotOfResponseAfterInterim(t *testing.T) {
	b, p, host := answering(t, perTry(), "HTTP/1.1 103 Early Hints\r\n\r\n", static("app"))
	p.WriteString(get("/"))
	b.Step()
	b.Advance(300 * time.Millisecond)
	(*host).WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
	b.Step()
	if got := p.Take(); !strings.Contains(got, "200 OK") {
		t.Errorf("the client got %q, want a 200; log %s", got, b.log.last())
	}
}

func TestTimeOfResponseBeginsWithEndOfRequestThatResponsePreceded(t *testing.T) {
	b, p, _ := answering(t, &route.ForwardConfig{Cluster: "app", Timeout: ptr(200 * time.Millisecond)}, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", static("app"))
	p.WriteString("POST / HTTP/1.1\r\nHost: a.b\r\ncontent-length: 4\r\n\r\nab")
	b.Step()
	p.WriteString("cd")
	b.Step()
	b.Advance(2 * time.Second)
	if !p.Closed && !p.EOF {
		t.Error("a response that does not end is waited for without end")
	}
}

func TestResponseThatPrecedesEndOfRequestAndEndsHasNoTime(t *testing.T) {
	b, p, _ := answering(t, &route.ForwardConfig{Cluster: "app", Timeout: ptr(200 * time.Millisecond)}, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", static("app"))
	p.WriteString("POST / HTTP/1.1\r\nHost: a.b\r\ncontent-length: 4\r\n\r\nab")
	b.Step()
	p.WriteString("cd")
	b.Step()
	b.Advance(2 * time.Second)
	if n := b.rt.Clusters["app"].Stats.UpstreamRqTimeout.Value(); n != 0 || len(b.log.lines) > 1 {
		t.Errorf("%d times are up, and the log says %v, want one line and none", n, b.log)
	}
}

// A try that waits for the place of another is not sent when the request has its answer, though that makes room.
func TestTryThatWaitsIsNotSentBehindAnswer(t *testing.T) {
	f := perTry()
	f.Hedge, f.Retry.NumRetries = ptr(true), ptr(uint32(2))
	c := cluster.Config{}
	c.Breakers[0].Connections = ptr(uint32(1))
	b := newTwo(t, c, route.RouteConfig{Name: "r", Match: route.Match{Kind: route.PrefixPath, Path: "/"}, Forward: f})
	b.serve2(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	b.reply = func(*peer2, uint32, map[string]string) {}
	p := b.dial()
	p.WriteString(get("/"))
	b.Step()
	b.Advance(time.Second) // two tries are with the host, the third waits
	up := b.upstreams[0]
	up.headers(3, true, ":status", "204")
	b.Step()
	if got := p.Take(); !strings.Contains(got, " 204 ") {
		t.Errorf("the client got %q, want a 204", got)
	}
	if len(up.heads) != 2 {
		t.Errorf("the host got %d tries, want 2: %s", len(up.heads), up.take())
	}
}
