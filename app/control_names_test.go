package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// The control plane knows the addresses of the names that it is asked for, looks again from time to time, says when they are
// others, and keeps what it knows while nobody answers.
func TestNamesOfGateways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer, fails := "203.0.113.1", false
		g := newGatewayNames(func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if fails {
				return nil, errors.New("nobody answers")
			}
			return []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr(answer), netip.MustParseAddr("203.0.113.9")}, nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go g.run(ctx)
		told := func() bool {
			synctest.Wait()
			select {
			case <-g.changed:
				return true
			default:
				return false
			}
		}
		want := func(step, want string, news bool) {
			t.Helper()
			if got := told(); got != news {
				t.Errorf("%s: news %t, want %t", step, got, news)
			}
			if got := fmt.Sprint(g.addresses()); got != want {
				t.Errorf("%s: %s, want %s", step, got, want)
			}
		}
		want("nothing is asked for", "map[]", false)
		g.want([]string{"ew.example.com"})
		want("the first answer", "map[ew.example.com:[203.0.113.1 203.0.113.9]]", true)
		g.want([]string{"ew.example.com"})
		time.Sleep(lookupEvery + time.Second)
		want("the same answer", "map[ew.example.com:[203.0.113.1 203.0.113.9]]", false)
		answer = "203.0.113.2"
		time.Sleep(lookupEvery)
		want("another answer", "map[ew.example.com:[203.0.113.2 203.0.113.9]]", true)
		fails = true
		time.Sleep(lookupEvery)
		want("no answer", "map[ew.example.com:[203.0.113.2 203.0.113.9]]", false)
		g.want(nil)
		want("nothing is asked for any more", "map[]", true)
	})
}
