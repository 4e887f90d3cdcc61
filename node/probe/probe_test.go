package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What is told is what lasts: as many results in a row as it takes, and only when they are others than before.
func TestWatchTellsWhatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const results = "x.xxx.x.xx..xxxx"
		var told []string
		ctx, cancel := context.WithCancel(t.Context())
		began, n := time.Now(), 0
		Watch(ctx, Pace{Delay: 5 * time.Second, Period: 2 * time.Second, Successes: 2}, func(context.Context) error {
			defer func() { n++ }()
			if n == len(results) {
				cancel()
				return nil
			}
			if results[n] == 'x' {
				return fmt.Errorf("try %d", n)
			}
			return nil
		}, func(trouble error) {
			told = append(told, fmt.Sprintf("%s %v", time.Since(began), trouble))
		})
		if want := []string{"13s try 4", "27s <nil>", "33s try 14"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

// A try that does not end has failed when its time is up.
func TestWatchEndsTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		Watch(ctx, Pace{Failures: 1}, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, func(trouble error) {
			if !errors.Is(trouble, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("after %s: %v, want a timeout after the default of 1s", time.Since(began), trouble)
			}
			cancel()
		})
	})
}

func TestHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/well":
			fmt.Fprint(w, r.UserAgent(), ",", r.Host, ",", r.Header.Get("x"))
		case "/elsewhere":
			http.Redirect(w, r, "http://elsewhere.test/", http.StatusFound)
		default:
			http.Error(w, "not today\nnor tomorrow", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	dial := (&net.Dialer{}).DialContext
	h := HTTP{Agent: "a/1", Address: strings.TrimPrefix(server.URL, "http://"), Path: "well", Headers: []Header{{"host", "h"}, {"X", "y"}}}
	if code, said, err := h.Ask(t.Context(), dial); code != 200 || said != ": a/1,h,y" || err != nil {
		t.Errorf("got %d%s, %v", code, said, err)
	}
	if err := h.Try(t.Context(), dial); err != nil {
		t.Error(err)
	}
	h.Path = "/elsewhere" // a redirect to another host is an answer
	if err := h.Try(t.Context(), dial); err != nil {
		t.Error(err)
	}
	h.Path = "/"
	if err := h.Try(t.Context(), dial); err == nil || err.Error() != "HTTP probe failed with statuscode: 503: not today" {
		t.Errorf("got %v", err)
	}
	server.Close()
	if err := TCP(t.Context(), dial, h.Address); err == nil {
		t.Error("nobody listens, and the probe says that somebody does")
	}
}
