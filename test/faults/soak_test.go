package faults

import (
	"errors"
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
	t.Logf("resident %d MB after a third, %d MB at the end; descriptors %d and %d, goroutines %d and %d, threads %d and %d", first.memory>>20, now.memory>>20, first.descriptors, now.descriptors, first.goroutines, now.goroutines, first.threads, now.threads)
	if err := now.flat(first); err != nil {
		t.Error(err)
	}
	f.want(t, 10)
}

// flat reports what a proxy holds more than it did.
func (u usage) flat(before usage) error {
	var all []error
	for _, x := range []struct {
		what          string
		was, is, most int64
	}{
		{"bytes of memory", before.memory, u.memory, before.memory + before.memory/4 + garbage},
		{"goroutines", before.goroutines, u.goroutines, before.goroutines + slack},
		{"descriptors", int64(before.descriptors), int64(u.descriptors), int64(before.descriptors) + 50},
		{"threads", before.threads, u.threads, before.threads + 2},
	} {
		if x.was == 0 || x.is > x.most {
			all = append(all, fmt.Errorf("%d %s at the end, %d after a third: want some and %d at most", x.is, x.what, x.was, x.most))
		}
	}
	return errors.Join(all...)
}

// A soak in which something grows fails: the growth of what leaks a goroutine, a descriptor or 30 KiB each second of half an hour.
func TestSoakNoticesGrowth(t *testing.T) {
	first := usage{memory: 30 << 20, goroutines: 12, descriptors: 130, threads: 9}
	if err := first.flat(first); err != nil {
		t.Errorf("nothing has grown, and yet: %v", err)
	}
	const seconds = 20 * 60 // of half an hour, after the first third
	for what, grow := range map[string]func(*usage){
		"memory":      func(u *usage) { u.memory += seconds * 30 << 10 },
		"goroutines":  func(u *usage) { u.goroutines += seconds },
		"descriptors": func(u *usage) { u.descriptors += seconds },
		"threads":     func(u *usage) { u.threads += 3 },
	} {
		now := first
		grow(&now)
		if now.flat(first) == nil {
			t.Errorf("%s grew from %+v to %+v unnoticed", what, first, now)
		}
	}
	if (usage{}).flat(usage{}) == nil {
		t.Error("it is not noticed that nothing was measured")
	}
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
