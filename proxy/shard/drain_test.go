package shard

import (
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
)

// A gradual drain ends more and more connections as its time goes by, as Envoy reckons it: with ten seconds for it, none in the
// first, one response in five in the second, and all from the sixth on.
func TestGradualDrain(t *testing.T) {
	b := full(t)
	b.Memory.Drain(false, listen.Pace{Time: 10 * time.Second, Gradual: true})
	b.Advance(time.Millisecond)
	for second := 1; second <= 10; second++ {
		const n = 400
		ended := 0
		for range n {
			if strings.Contains(b.do(get("/raw")), "connection: close") {
				ended++
			}
		}
		if want := min(n, n*(second-1)/5); ended < want-n/7 || ended > want+n/7 {
			t.Errorf("second %d: %d of %d connections were told to end, want some %d", second, ended, n, want)
		}
		b.Advance(time.Second)
	}
	if got := b.config.Stats.DownstreamCxDrainClose.Value(); got < 10*400/2 {
		t.Errorf("%d connections counted as drained", got)
	}
}

// A connection of HTTP/2 goes on until its turn has come, and is told by a response.
func TestGradualDrainOfHTTP2(t *testing.T) {
	b := newTwo(t, cluster.Config{})
	c := b.client()
	b.Memory.Drain(false, listen.Pace{Time: 1000 * time.Hour, Gradual: true})
	c.get(1, "/x")
	b.Step()
	if got := c.take(); strings.Contains(got, "GOAWAY") {
		t.Fatalf("the client got %q at the beginning of a thousand hours", got)
	}
	b.Advance(1000*time.Hour - time.Second)
	c = b.client()
	c.get(1, "/x")
	b.Step()
	if got := c.take(); !strings.Contains(got, "GOAWAY 2147483647 NO_ERROR \nHEADERS 1 ") {
		t.Errorf("the client got %q in the last second", got)
	}
}

// What the workload sends goes on while what it receives ends: only listeners that say so are inbound.
func TestInboundDrainsAlone(t *testing.T) {
	for _, d := range []struct {
		name string
		of   listen.Direction
		ends bool
	}{{"inbound", listen.Inbound, true}, {"outbound", listen.Outbound, false}, {"neither", listen.Unspecified, false}} {
		b := full(t)
		b.rt.Listeners[0].Direction = d.of
		b.Memory.Drain(true, listen.Pace{Time: time.Minute})
		if got := strings.Contains(b.do(get("/raw")), "connection: close"); got != d.ends {
			t.Errorf("%s: told to end: %v, want %v", d.name, got, d.ends)
		}
	}
}
