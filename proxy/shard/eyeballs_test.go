package shard

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

// attempts notes when which address was dialled, in milliseconds, and decides what becomes of it.
func attempts(b *bench, outcome map[netip.AddrPort]error) *[]string {
	began, seen := b.Loop.Now(), new([]string)
	b.Refuse(func(d drive.Dial) error {
		*seen = append(*seen, fmt.Sprintf("%v@%d", d.Addr.Addr(), (b.Loop.Now()-began)/1e6))
		return outcome[d.Addr]
	})
	return seen
}

func TestAddressesOfAHostAreTriedOneAfterAnother(t *testing.T) {
	v6 := netip.MustParseAddrPort("[fd00::1]:80")
	hangs, refuses := io.EOF, error(syscall.ECONNREFUSED)
	for _, test := range []struct {
		what    string
		outcome map[netip.AddrPort]error
		want    []string
		status  string
		failed  uint64
	}{
		{"the first answers", nil, []string{"10.0.0.3@0"}, "200", 0},
		{"the next has its turn after 300 ms", map[netip.AddrPort]error{gone: hangs}, []string{"10.0.0.3@0", "fd00::1@300"}, "200", 0},
		{"or at once, if the first has failed", map[netip.AddrPort]error{gone: refuses}, []string{"10.0.0.3@0", "fd00::1@0"}, "200", 0},
		{"families take turns", map[netip.AddrPort]error{gone: hangs, v6: hangs}, []string{"10.0.0.3@0", "fd00::1@300", "10.0.0.1@600"}, "200", 0},
		{"all fail", map[netip.AddrPort]error{gone: refuses, v6: refuses, app1: refuses}, []string{"10.0.0.3@0", "fd00::1@0", "10.0.0.1@0"}, "503", 1},
		{"nobody answers", map[netip.AddrPort]error{gone: hangs, v6: hangs, app1: hangs}, []string{"10.0.0.3@0", "fd00::1@300", "10.0.0.1@600"}, "503", 1},
		{"the slow one fails at last", map[netip.AddrPort]error{gone: hangs, v6: refuses, app1: refuses}, []string{"10.0.0.3@0", "fd00::1@300", "10.0.0.1@300"}, "503", 1},
	} {
		t.Run(test.what, func(t *testing.T) {
			b := newBench(t, []route.RouteConfig{prefix("all", "/", &route.ForwardConfig{Cluster: "app"})}, static("app"))
			b.serve(v6)
			b.serve(gone)
			c := b.rt.Clusters["app"]
			c.SetEndpoints([]cluster.Endpoint{{Addr: gone, More: []netip.AddrPort{app1, v6}}})
			seen := attempts(b, test.outcome)
			p := b.dial()
			p.WriteString(get("/"))
			b.Advance(6 * time.Second)
			if got := p.Take(); !strings.HasPrefix(got, "HTTP/1.1 "+test.status) {
				t.Errorf("answer %q, want %s", got, test.status)
			}
			if !slices.Equal(*seen, test.want) {
				t.Errorf("tried %v, want %v", *seen, test.want)
			}
			if n := c.Stats.UpstreamCxConnectFail.Value(); n != test.failed {
				t.Errorf("%d connections have failed, want %d: attempts are not counted", n, test.failed)
			}
			if n := c.Stats.UpstreamCxTotal.Value(); n != uint64(len(test.want)) {
				t.Errorf("%d connections were begun, want %d", n, len(test.want))
			}
			want := 1 // the client's
			if test.status == "200" {
				want++
			}
			if n := b.Loop.Len(); n != want {
				t.Errorf("%d sockets are open, want %d: attempts that came to nothing are closed", n, want)
			}
		})
	}
}
