package faults

import (
	"flag"
	"fmt"
	"net"
	"testing"
	"time"
)

var soak = flag.Duration("soak", time.Minute, "how long TestSoak goes on, and TestServersThatCloseIdleConnections for ten minutes of it")

// Traffic of all kinds, connections that are reset in the middle of it and configuration that is replaced, for as long as
// -soak says: the proxy holds as much at the end as after its first third, and no request has failed.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := *soak
	if testing.Short() {
		length = min(length, 5*time.Second)
	}
	a, _ := echoServer(t)
	b, _ := echoServer(t)
	c := newConfigured(t, 2*time.Second, a, b)
	f := begin(t, c.at, 200)
	var first usage
	begun := time.Now()
	for i := 0; time.Since(begun) < length; i++ {
		switch i % 4 {
		case 0:
			c.replaceListener(t)
		case 1:
			c.replaceClusters(t)
		case 2:
			c.replaceRoutes(t)
		case 3:
			c.replaceEndpoints(t, [][]string{{a, b}, {a}, {b}}[i/4%3]...)
		}
		for range 10 {
			leave(t, c.at)
			pause(20 * time.Millisecond)
		}
		if first.memory == 0 && time.Since(begun) > length/3 {
			first = holds(t, c.Proxy)
		}
	}
	now := holds(t, c.Proxy)
	t.Logf("resident %d MB after a third, %d MB at the end; descriptors %d and %d, goroutines %d and %d", first.memory>>20, now.memory>>20, first.descriptors, now.descriptors, first.goroutines, now.goroutines)
	const garbage = 16 << 20 // that the collector lets be
	if now.memory > first.memory+first.memory/4+garbage || now.goroutines > first.goroutines+slack || now.descriptors > first.descriptors+50 || now.threads > first.threads+2 {
		t.Errorf("the proxy holds %+v at the end, and held %+v after a third", now, first)
	}
	f.want(t, 10)
}

// leave begins a request and resets the connection somewhere.
func leave(t *testing.T, address string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	x := newCut(c)
	for range 100 {
		if _, err := fmt.Fprintf(x, "POST /two HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n%01000d", 0); err != nil {
			return
		}
	}
	reset(c)
}
