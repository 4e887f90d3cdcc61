package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Client returns an HTTP client of its own connections: it follows no redirect
// and stores no cookie.
func Client(limit time.Duration) *http.Client {
	return &http.Client{
		Timeout:       limit,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{Timeout: limit}).DialContext, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// An Answer is a response with its body.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	Took   time.Duration
}

// Get asks once. Header is "name: value" pairs; host: sets the authority.
func Get(c *http.Client, url string, header ...string) (Answer, error) {
	return Do(c, http.MethodGet, url, "", header...)
}

// Do asks once.
func Do(c *http.Client, method, url, body string, header ...string) (Answer, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, content)
	if err != nil {
		return Answer{}, err
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ":")
		value = strings.TrimSpace(value)
		if strings.EqualFold(name, "host") {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	start := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("body of the %d answer: %w", resp.StatusCode, err)
	}
	return Answer{resp.StatusCode, resp.Header, string(text), time.Since(start)}, nil
}

// Count makes n requests on a few connections and counts what class says of the
// answers; errors count under their text.
func Count(n, connections int, ask func(*http.Client) (string, error)) map[string]int {
	var mu sync.Mutex
	counts := map[string]int{}
	var left atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			c := Client(15 * time.Second)
			defer c.CloseIdleConnections()
			for left.Add(-1) >= 0 {
				class, err := ask(c)
				if err != nil {
					class = "error: " + err.Error()
				}
				mu.Lock()
				counts[class]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return counts
}

// Load is a steady stream of requests: each is sent at its time, whether or not
// those before have been answered.
type Load struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	sent   atomic.Int64
	mu     sync.Mutex
	failed []failure // guarded by mu
}

// A failure is a request that was not answered as it should.
type failure struct {
	sent, ended time.Time
	what        string
}

// Steady asks rate times a second until Stop. An answer that is no error must be
// good by check.
func Steady(url string, rate int, check func(Answer) error, header ...string) *Load {
	c := Client(15 * time.Second)
	return Every(rate, func() error {
		a, err := Get(c, url, header...)
		if err != nil {
			return err
		}
		return check(a)
	})
}

// Every calls ask rate times a second until Stop.
func Every(rate int, ask func() error) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{cancel: cancel}
	l.done.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.done.Go(func() { l.ask(ask) })
			}
		}
	})
	return l
}

func (l *Load) ask(ask func() error) {
	l.sent.Add(1)
	sent := time.Now()
	err := ask()
	if err == nil {
		return
	}
	l.mu.Lock()
	l.failed = append(l.failed, failure{sent, time.Now(), err.Error()})
	l.mu.Unlock()
}

// Sent is how many requests were sent so far.
func (l *Load) Sent() int { return int(l.sent.Load()) }

// Failed is how many of them failed so far.
func (l *Load) Failed() int { return l.FailedSince(time.Time{}) }

// FailedSince is how many of those that were sent after a time have failed so far.
func (l *Load) FailedSince(at time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, f := range l.failed {
		if f.sent.After(at) {
			n++
		}
	}
	return n
}

// Stop ends the stream, waits for the answers, and returns an error that tells
// the failures if there are any.
func (l *Load) Stop() error {
	l.cancel()
	l.done.Wait()
	if len(l.failed) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d requests failed:", len(l.failed), l.Sent())
	for _, f := range l.failed[:min(8, len(l.failed))] {
		text += fmt.Sprintf("\n  sent %s, ended %s: %s", f.sent.Format("05.000"), f.ended.Format("05.000"), f.what)
	}
	return errors.New(text)
}

// OK is the check that an answer is 200.
func OK(a Answer) error {
	if a.Status != http.StatusOK {
		return fmt.Errorf("status %d, body %q", a.Status, a.Body)
	}
	return nil
}
