package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
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
	failed map[string]int // by what happened
}

// Steady asks rate times a second until Stop. An answer that is no error must be
// good by check.
func Steady(url string, rate int, check func(Answer) error, header ...string) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{cancel: cancel, failed: map[string]int{}}
	c := Client(15 * time.Second)
	l.done.Go(func() {
		defer c.CloseIdleConnections()
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		var asked sync.WaitGroup
		for {
			select {
			case <-ctx.Done():
				asked.Wait()
				return
			case <-tick.C:
				asked.Go(func() { l.ask(c, url, check, header) })
			}
		}
	})
	return l
}

func (l *Load) ask(c *http.Client, url string, check func(Answer) error, header []string) {
	l.sent.Add(1)
	a, err := Get(c, url, header...)
	if err == nil {
		err = check(a)
	}
	if err == nil {
		return
	}
	l.mu.Lock()
	l.failed[time.Now().Format("05.000 ")+err.Error()]++
	l.mu.Unlock()
}

// Sent is how many requests were sent so far.
func (l *Load) Sent() int { return int(l.sent.Load()) }

// Failed is how many of them failed so far.
func (l *Load) Failed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, k := range l.failed {
		n += k
	}
	return n
}

// Stop ends the stream, waits for the answers, and returns an error that tells
// the failures if there are any.
func (l *Load) Stop() error {
	l.cancel()
	l.done.Wait()
	n := l.Failed()
	if n == 0 {
		return nil
	}
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(l.failed)) {
		if lines = append(lines, what); len(lines) == 8 {
			break
		}
	}
	return errors.New(fmt.Sprintf("%d of %d requests failed:\n  ", n, l.Sent()) + strings.Join(lines, "\n  "))
}

// OK is the check that an answer is 200.
func OK(a Answer) error {
	if a.Status != http.StatusOK {
		return fmt.Errorf("status %d, body %q", a.Status, a.Body)
	}
	return nil
}
