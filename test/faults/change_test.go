package faults

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/busy"
	"github.com/mallamesh/malla/test/script/mesh"
)

// Servers are replaced one after the other, and the proxy's own listener as well, under 500 requests a second and
// WebSockets: none of them notices.
func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	rounds := 3
	if testing.Short() {
		rounds = 2
	}
	at, server := echoServer(t)
	c := newConfigured(t, 3*time.Second, at)
	f := begin(t, c.at, 500)
	busy.Record()
	start := time.Now()
	for range rounds {
		old := server
		at, server = echoServer(t)
		c.replaceEndpoints(t, at)
		// Whoever has left the endpoints, and whom the proxy has left, may end: as a server does that is told to. (A server that
		// closes a connection in which a request has just been sent takes it along, whoever sent it.)
		mesh.Until(t, 20*time.Second, "no connection to the old server is kept", func() error {
			if n := old.open.Load(); n != 0 {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if err := old.Shutdown(ctx); err != nil {
			t.Errorf("the old server: %v", err)
		}
		cancel()
		c.replaceListener(t)
		pause(3500 * time.Millisecond) // all that the old listener had has ended by now
	}
	f.want(t, 50*int(busy.Free(start, time.Now())/time.Second))
	if n := c.Stat(t, "http.main.downstream_cx_drain_close"); n < int64(10*rounds) {
		t.Errorf("%d connections were told to end, want the 20 of each round or so", n)
	}
}

// Whatever of its configuration is replaced, however often, no request notices.
func TestConfigurationReplaced(t *testing.T) {
	t.Parallel()
	times := 250 // each of the four
	if testing.Short() {
		times = 25
	}
	a, _ := echoServer(t)
	b, _ := echoServer(t)
	c := newConfigured(t, 5*time.Second, a, b) // a WebSocket lasts half a second, and a little more on a busy machine: it is to end before its listener
	f := begin(t, c.at, 200)
	for i := range times {
		c.replaceListener(t)
		c.replaceClusters(t)
		c.replaceRoutes(t)
		c.replaceEndpoints(t, [][]string{{a, b}, {a}, {b}}[i%3]...)
		pause(20 * time.Millisecond) // so that requests meet every one of them
	}
	f.want(t, 10)
}

// pause lets the world go on, where the time itself is what counts.
func pause(d time.Duration) { <-time.After(d) }
