package shard

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

// following is a bench whose application redirects /old to /new once.
func following(t *testing.T) *bench {
	to := func(name, path string, p *route.FollowPolicy) route.RouteConfig {
		return prefix(name, path, &route.ForwardConfig{Cluster: "app", Follow: p})
	}
	b := newBench(t, []route.RouteConfig{to("old", "/old", &route.FollowPolicy{Max: 1, Codes: []int{302}}), to("new", "/new", nil)}, static("app"))
	b.endpoints("app", app1)
	b.answer = func(_ *bench, p *drive.Pipe, request string) {
		if strings.Contains(request, " /old ") {
			p.WriteString("HTTP/1.1 302 Found\r\nlocation: http://there.example/new\r\ncontent-length: 3\r\n\r\n") // and no body yet
			return
		}
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew")
	}
	return b
}

func TestRedirectIsFollowedForTheClient(t *testing.T) {
	b := following(t)
	p := b.dial()
	p.WriteString("POST /old HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody")
	b.Step()
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, "new") {
		t.Errorf("answer %q", got)
	}
	if len(b.requests) != 2 || !strings.Contains(b.requests[1], "host: there.example") || !strings.HasSuffix(b.requests[1], "body") {
		t.Errorf("requests %q, want the second at there.example with the body", b.requests)
	}
	if len(b.log.lines) != 2 || !strings.Contains(b.log.lines[0], " 302 - internal_redirect ") || !strings.Contains(b.log.lines[1], " 200 - via_upstream ") {
		t.Errorf("log %q", b.log.lines)
	}
	p.WriteString(get("/new")) // the connection goes on
	b.Step()
	if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("next answer %q", got)
	}
	st := b.config.Stats
	if n := st.DownstreamRqActive.Value(); n != 0 {
		t.Errorf("%d requests are active, want none", n)
	}
}

func TestClientGoesWhileItsRedirectIsFollowed(t *testing.T) {
	b := following(t)
	b.answer = func(_ *bench, u *drive.Pipe, request string) {
		u.WriteString("HTTP/1.1 302 Found\r\nlocation: http://there.example/new\r\ncontent-length: 0\r\n\r\n")
	}
	p := b.dial()
	p.WriteString(get("/old"))
	p.CloseWrite() // seen in the turn in which the redirect comes, or before
	b.Step()
	if n := b.config.Stats.DownstreamRqActive.Value(); n != 0 {
		t.Errorf("%d requests are active, want none", n)
	}
	if n := b.rt.Clusters["app"].Stats.UpstreamRqActive.Value(); n != 0 {
		t.Errorf("%d requests are active upstream, want none", n)
	}
}
