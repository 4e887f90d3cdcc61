package faults

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// names answers every question with one address, unless it is silent.
type names struct {
	at     string
	silent atomic.Bool
	asked  atomic.Int64
}

func serveNames(t *testing.T, address net.IP) *names {
	t.Helper()
	l, err := net.ListenPacket("udp", hop.Host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n := &names{at: l.LocalAddr().String()}
	go func() {
		b := make([]byte, 4096)
		for {
			size, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			if n.asked.Add(1); n.silent.Load() {
				continue
			}
			q := m.Questions[0]
			a := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
			if q.Type == dnsmessage.TypeA {
				a.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 300}, Body: &dnsmessage.AResource{A: [4]byte(address.To4())}}}
			}
			if packed, err := a.Pack(); err == nil {
				_, _ = l.WriteTo(packed, from)
			}
		}
	}()
	return n
}

// A cluster of names that is replaced goes on with the hosts it had while nobody answers for the names.
func TestNamesReplaced(t *testing.T) {
	t.Parallel()
	server, _ := echoServer(t)
	n := serveNames(t, net.ParseIP(hop.Host))
	_, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	c := &configured{at: hop.Free(t), dir: t.TempDir(), writes: map[string]int64{}}
	replace := func() {
		c.version++
		c.put(t, "cds.yaml", fmt.Sprintf(`- "@type": %[1]sconfig.cluster.v3.Cluster
  name: one
  type: STRICT_DNS
  dns_lookup_family: V4_ONLY
  dns_refresh_rate: 60s
  connect_timeout: %[2]d.5s
  typed_dns_resolver_config: {name: envoy.network.dns_resolver.cares, typed_config: {"@type": %[1]sextensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, resolvers: [%[3]s], dns_resolver_options: {no_default_search_domain: true}}}
  load_assignment: {cluster_name: one, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: app.test, port_value: %[4]s}}}}]}]}
`, ads, 5+c.version, hop.Socket(n.at), port))
	}
	replace()
	c.put(t, "rds.yaml", c.routes())
	c.put(t, "lds.yaml", c.listener())
	c.Proxy = hop.Configured(t, nil, fmt.Sprintf(`node: {id: test, cluster: test}
dynamic_resources:
  lds_config: {path_config_source: {path: %[1]s/lds.yaml}}
  cds_config: {path_config_source: {path: %[1]s/cds.yaml}}
`, c.dir))
	client := &http.Client{Transport: new(http.Transport), Timeout: standsStill}
	defer client.CloseIdleConnections()
	ask := func() error {
		resp, err := client.Get("http://" + c.at + "/")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			return fmt.Errorf("%s", resp.Status)
		}
		return nil
	}
	mesh.Until(t, 20*time.Second, "the first answer", ask)
	n.silent.Store(true)
	for i := range 3 {
		asked := n.asked.Load()
		replace()
		c.counted(t, "cluster_manager.cds.update_success")
		mesh.Until(t, 20*time.Second, "the name is asked for", func() error {
			if n.asked.Load() == asked {
				return fmt.Errorf("nobody has asked")
			}
			return nil
		})
		for range 20 {
			if err := ask(); err != nil {
				t.Fatalf("after replacement %d, while the name has no answer: %v, want the host of before", i+1, err)
			}
		}
	}
}
