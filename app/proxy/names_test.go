package proxy

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/api/nds"
	"github.com/mallamesh/malla/node/dns"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// The table of names is taken in as it comes; one that cannot be read leaves the last.
func TestTableOfNames(t *testing.T) {
	n := &names{log: slog.New(slog.DiscardHandler)}
	n.server = dns.Server{Partial: true, Forward: n.forward}
	ask := func() *mdns.Msg {
		return n.server.Answer(t.Context(), new(mdns.Msg).SetQuestion("a.test.", mdns.TypeA))
	}
	if a := ask(); a.Rcode != mdns.RcodeServerFailure {
		t.Errorf("before the first table: %s, want SERVFAIL: nobody knows whose name it is", mdns.RcodeToString[a.Rcode])
	}
	table := nds.Table{Names: map[string]nds.Name{"a.test": {Addrs: []netip.Addr{netip.MustParseAddr("240.240.0.1")}}}}
	for _, body := range [][]byte{table.Append(nil), {0xff}} {
		refused := n.take(xdsclient.Update{Type: nds.Type, Resources: []xdsclient.Resource{{Name: "names", Body: &anypb.Any{TypeUrl: nds.Type, Value: body}}}})
		if bad := len(body) == 1; bad != (len(refused) == 1) {
			t.Errorf("%x: refused %v", body, refused)
		}
		if a := ask(); len(a.Answer) != 1 || a.Answer[0].(*mdns.A).A.String() != "240.240.0.1" {
			t.Errorf("answers %v, want 240.240.0.1", a)
		}
	}
}

func TestMetricsOfNames(t *testing.T) {
	n := &names{log: slog.New(slog.DiscardHandler)}
	n.observe(&dns.Asked{})
	n.took.add(2 * time.Millisecond)
	n.took.add(time.Minute)
	var out bytes.Buffer
	if err := n.writeMetrics(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# TYPE istio_agent_dns_requests_total counter\nistio_agent_dns_requests_total 1\n",
		"istio_agent_dns_upstream_request_duration_seconds_bucket{le=\"0.001\"} 0\n",
		"istio_agent_dns_upstream_request_duration_seconds_bucket{le=\"0.005\"} 1\n",
		"istio_agent_dns_upstream_request_duration_seconds_bucket{le=\"+Inf\"} 2\n",
		"istio_agent_dns_upstream_request_duration_seconds_sum 60.002\nistio_agent_dns_upstream_request_duration_seconds_count 2\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
