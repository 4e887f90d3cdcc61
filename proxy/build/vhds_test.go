package build_test

import (
	"fmt"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/proxy/xdsclient"
)

func virtualHost(t *testing.T, name, domain string) xdsclient.Resource {
	return resource(t, name, &routev3.VirtualHost{}, fmt.Sprintf("{name: %q, domains: [%q], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}", name, domain))
}

// Virtual hosts that come one by one are part of their table: they come, go, and stay when the table
// itself comes anew. One that wants a domain of another is refused by its name.
func TestVirtualHostsOneByOne(t *testing.T) {
	w := newWorld(t)
	table := func(more string) xdsclient.Resource {
		return resource(t, "80", &routev3.RouteConfiguration{}, fmt.Sprintf(
			"{name: '80', vhds: {config_source: %s}, virtual_hosts: [{name: first, domains: [first.example], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}%s]}", ads, more))
	}
	has := func(hosts ...string) {
		t.Helper()
		for _, h := range hosts {
			host, not := strings.CutPrefix(h, "-")
			if got := w.Runtime().Table("80").HasHost(host); got == not {
				t.Errorf("the table has %s: %v", host, got)
			}
		}
	}
	w.take(xdsclient.ListenerType, httpListener(t, "l", "80"))
	w.take(xdsclient.RouteType, table(""))
	if !w.Wants()[xdsclient.VirtualHostType].Unasked {
		t.Error("what the server sends by itself is not wanted")
	}
	has("first.example", "-a.example")
	w.take(xdsclient.VirtualHostType, virtualHost(t, "80/a", "a.example"), virtualHost(t, "80/b", "b.example"), virtualHost(t, "81/c", "c.example"))
	has("first.example", "a.example", "b.example", "-c.example")
	w.take(xdsclient.RouteType, table(", {name: second, domains: [second.example], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}"))
	has("second.example", "a.example", "b.example")

	refused := w.Apply(xdsclient.Update{Type: xdsclient.VirtualHostType, Resources: []xdsclient.Resource{virtualHost(t, "80/d", "d.example"), virtualHost(t, "80/e", "a.example")}})
	if len(refused) != 1 || refused[0].Name != "80/e" {
		t.Errorf("refused %v, want 80/e, whose domain 80/a has", refused)
	}
	has("a.example", "d.example")

	w.Apply(xdsclient.Update{Type: xdsclient.VirtualHostType, Removed: []string{"80/a"}})
	has("-a.example", "b.example", "first.example")
}
