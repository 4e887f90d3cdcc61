package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pace asks at a fixed rate, whether or not answers come: a server that stalls
// is measured with all requests that were due meanwhile. The first tenth is not: connections and caches are new.
//
// (h2load --rps paces, too, but tells no percentiles, and begins to count when it has sent, not when a request was due.)
func pace(s helperSpec) (helperResult, error) {
	debug.SetGCPercent(-1) // a collection here would be a latency there; a round's garbage is some 100 MB
	clients := make([]*paced, s.Conns)
	for i := range clients {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			return helperResult{}, err
		}
		defer c.Close()
		clients[i] = &paced{conn: c, due: make(chan time.Time, s.Rate), took: make([]float64, 0, int(s.Seconds*float64(s.Rate))/s.Conns+1)}
		if err := ask(c); err != nil {
			return helperResult{}, err
		}
	}
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(c.read)
	}
	err := send(s, clients)
	for _, c := range clients {
		close(c.due)
	}
	all.Wait()
	var took []float64
	pieces := 0
	for _, c := range clients {
		pieces += len(c.took)
		took = append(took, c.took[len(c.took)/10:]...)
		err = errors.Join(err, c.err)
	}
	slices.Sort(took)
	return helperResult{Pieces: float64(pieces), P50: percentile(took, 50), P99: percentile(took, 99)}, err
}

// A paced connection has requests on their way, in the order of due.
type paced struct {
	conn net.Conn
	due  chan time.Time
	took []float64 // milliseconds
	err  error
}

// send writes each request when it is due. The runtime's timers are too coarse
// for that, so the thread sleeps in the kernel.
func send(s helperSpec, clients []*paced) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // without it a sleep takes 50 us more
	step := time.Second / time.Duration(s.Rate)
	due := time.Now()
	for i := range int(s.Seconds * float64(s.Rate)) {
		due = due.Add(step)
		if d := time.Until(due); d > 0 {
			ts := unix.NsecToTimespec(int64(d))
			_ = unix.Nanosleep(&ts, nil)
		}
		c := clients[i%len(clients)]
		c.due <- due
		if _, err := io.WriteString(c.conn, request); err != nil {
			return err
		}
	}
	return nil
}

// read takes the answers and their latencies.
func (c *paced) read() {
	r := bufio.NewReader(c.conn)
	for due := range c.due {
		if c.err != nil {
			continue
		}
		_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		a, err := http.ReadResponse(r, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, a.Body)
		}
		if err == nil && a.StatusCode != http.StatusOK {
			err = fmt.Errorf("found status %d, want 200", a.StatusCode)
		}
		c.took, c.err = append(c.took, float64(time.Since(due))/float64(time.Millisecond)), err
	}
}

// percentile of sorted values, by the nearest rank.
func percentile(sorted []float64, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*p+99)/100, 1)-1]
}
