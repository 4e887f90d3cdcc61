package faults

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// configured is a proxy whose whole configuration is in files: a listener "main", routes "table", and the clusters
// "one" and "two", of which two speaks HTTP/2 and takes the paths below /two.
type configured struct {
	*hop.Proxy
	at      string
	dir     string
	writes  map[string]int64 // by the statistic that counts them
	version int              // of what is written: nothing is written that is there already
}

const ads = "type.googleapis.com/envoy."

func newConfigured(t *testing.T, drain time.Duration, hosts ...string) *configured {
	t.Helper()
	c := &configured{at: hop.Free(t), dir: t.TempDir(), writes: map[string]int64{}}
	c.put(t, "eds.yaml", endpoints(hosts))
	c.put(t, "rds.yaml", c.routes())
	c.put(t, "cds.yaml", c.clusters())
	c.put(t, "lds.yaml", c.listener())
	c.Proxy = hop.Configured(t, []string{"--drain-time-s", fmt.Sprint(int(drain / time.Second))}, fmt.Sprintf(`node: {id: test, cluster: test}
dynamic_resources:
  lds_config: {path_config_source: {path: %[1]s/lds.yaml}}
  cds_config: {path_config_source: {path: %[1]s/cds.yaml}}
`, c.dir))
	return c
}

// put moves a file to where the proxy looks for it.
func (c *configured) put(t *testing.T, name string, resources string) {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path+".new", []byte("resources:\n"+resources), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// counted waits until the proxy works by what was put, as its statistics tell.
func (c *configured) counted(t *testing.T, counter string) {
	t.Helper()
	c.writes[counter]++ // the first is that of the start
	mesh.Until(t, 20*time.Second, "what was put is in force", func() error {
		if n, want := c.Stat(t, counter), 1+c.writes[counter]; n < want {
			return fmt.Errorf("%s is %d, want %d", counter, n, want)
		}
		return nil
	})
}

// replaceListener puts another listener on the same address.
func (c *configured) replaceListener(t *testing.T) {
	t.Helper()
	c.version++
	c.put(t, "lds.yaml", c.listener())
	c.counted(t, "listener_manager.lds.update_success")
}

func (c *configured) replaceClusters(t *testing.T) {
	t.Helper()
	c.version++
	c.put(t, "cds.yaml", c.clusters())
	c.counted(t, "cluster_manager.cds.update_success")
}

// replaceRoutes waits until an answer is by the new ones.
func (c *configured) replaceRoutes(t *testing.T) {
	t.Helper()
	c.version++
	c.put(t, "rds.yaml", c.routes())
	mesh.Until(t, 20*time.Second, "the routes are in force", func() error {
		resp, err := http.Get("http://" + c.at + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if got, want := resp.Header.Get("x-version"), fmt.Sprint(c.version); got != want {
			return fmt.Errorf("an answer is by version %s, want %s", got, want)
		}
		return nil
	})
}

// replaceEndpoints waits until the proxy has these hosts and no others.
func (c *configured) replaceEndpoints(t *testing.T, hosts ...string) {
	t.Helper()
	c.put(t, "eds.yaml", endpoints(hosts))
	mesh.Until(t, 20*time.Second, "the endpoints are in force", func() error {
		text, err := peer.Ask(c.Admin, "/clusters")
		if err != nil {
			return err
		}
		found := strings.Count(text, "::cx_active::")
		for _, h := range hosts {
			if strings.Count(text, "::"+h+"::cx_active::") != 2 {
				found = -1
			}
		}
		if found != 2*len(hosts) {
			return fmt.Errorf("the hosts are\n%s", text)
		}
		return nil
	})
}

func endpoints(hosts []string) string {
	var list []string
	for _, h := range hosts {
		list = append(list, fmt.Sprintf("{endpoint: {address: %s}}", hop.Socket(h)))
	}
	var b strings.Builder
	for _, name := range []string{"one", "two"} {
		fmt.Fprintf(&b, "- {\"@type\": %sconfig.endpoint.v3.ClusterLoadAssignment, cluster_name: %s, endpoints: [{lb_endpoints: [%s]}]}\n", ads, name, strings.Join(list, ", "))
	}
	return b.String()
}

func (c *configured) clusters() string {
	var b strings.Builder
	for name, protocol := range map[string]string{"one": "http_protocol_options", "two": "http2_protocol_options"} {
		fmt.Fprintf(&b, `- "@type": %[1]sconfig.cluster.v3.Cluster
  name: %[2]s
  type: EDS
  connect_timeout: %[3]d.5s
  eds_cluster_config: {eds_config: {path_config_source: {path: %[4]s/eds.yaml}}}
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": %[1]sextensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {%[5]s: {}}}
`, ads, name, 5+c.version, c.dir, protocol)
	}
	return b.String()
}

func (c *configured) routes() string {
	return fmt.Sprintf(`- "@type": %sconfig.route.v3.RouteConfiguration
  name: table
  response_headers_to_add: [{header: {key: x-version, value: "%d"}}]
  virtual_hosts:
  - {name: all, domains: ["*"], routes: [{match: {prefix: /two}, route: {cluster: two}}, {match: {prefix: /}, route: {cluster: one, timeout: 0s}}]}
`, ads, c.version)
}

func (c *configured) listener() string {
	return fmt.Sprintf(`- "@type": %[1]sconfig.listener.v3.Listener
  name: main
  address: %[2]s
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
        "@type": %[1]sextensions.filters.network.http_connection_manager.v3.HttpConnectionManager
        stat_prefix: main
        server_name: version-%[3]d
        upgrade_configs: [{upgrade_type: websocket}]
        rds: {route_config_name: table, config_source: {path_config_source: {path: %[4]s/rds.yaml}}}
        http_filters:
        - {name: router, typed_config: {"@type": %[1]sextensions.filters.http.router.v3.Router}}
`, ads, hop.Socket(c.at), c.version, c.dir)
}
