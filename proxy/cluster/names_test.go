package cluster

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// phoneBook answers after a second.
type phoneBook struct {
	name string
	addr netip.Addr
	lost atomic.Bool
}

func (b *phoneBook) Resolve(ctx context.Context, name string, _ Family) ([]netip.Addr, time.Duration, error) {
	select {
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	case <-time.After(time.Second):
	}
	if name == b.name && !b.lost.Load() {
		return []netip.Addr{b.addr}, 10 * time.Second, nil
	}
	return nil, 0, errors.New("no such host")
}

func TestNameCache(t *testing.T) {
	at := netip.MustParseAddr("10.1.2.3")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		set, _ := stats.NewRegistry(false).NameCache("c")
		book := &phoneBook{name: "a.example", addr: at}
		c := NewNameCache(ctx, NamesConfig{MaxNames: 2, MaxPending: 3, TTL: 30 * time.Second, Timeout: 3 * time.Second}, book, set)
		if a, known := c.Lookup("192.0.2.7"); !known || len(a) != 1 || a[0].String() != "192.0.2.7" {
			t.Errorf("an address means %v, %v; want itself", a, known)
		}
		var told atomic.Int32
		for range 2 { // the second waits for the first's answer
			if got := c.Ask("a.example", func() { told.Add(1) }); got != Asked {
				t.Fatalf("asking: %v", got)
			}
		}
		c.Ask("b.example", func() { told.Add(1) })
		if got := c.Ask("b.example", func() {}); got != Crowded {
			t.Errorf("the fourth that waits: %v, want Crowded", got)
		}
		if _, known := c.Lookup("a.example"); known {
			t.Error("the answer is known before it has come")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a, known := c.Lookup("a.example"); told.Load() != 3 || !known || len(a) != 1 || a[0] != at {
			t.Errorf("%d were told, a.example is %v, %v", told.Load(), a, known)
		}
		if a, known := c.Lookup("b.example"); !known || len(a) != 0 {
			t.Errorf("b.example is %v, %v; want known not to be", a, known)
		}
		if got := c.Ask("c.example", func() {}); got != Full {
			t.Errorf("the third name: %v, want Full", got)
		}
		book.lost.Store(true) // a name server that fails takes nothing away
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if a, _ := c.Lookup("a.example"); len(a) != 1 || a[0] != at {
			t.Errorf("a.example is %v after a failure", a)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := set.NumHosts.Value(); n != 0 {
			t.Errorf("%d names are kept that nobody asks for", n)
		}
		stop()
	})
}
