package build

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stats"
)

// A connection that lives for days is counted on its way, every byte once.
func TestConnectionsAreCounted(t *testing.T) {
	istio := stats.NewIstio(stats.IstioOptions{Local: stats.Peer{Workload: "sleep-v1"}})
	m := &istioMetrics{shards: []*shardMetrics{newShardMetrics(istio)}, reporter: stats.Source, hostName: true}
	r := &access.Record{ConnectionID: 7, ClusterRaw: "outbound|9000||tcp-echo.default.svc.cluster.local",
		Destination: istio.Destination(stats.Destination{Service: "tcp-echo.default.svc.cluster.local", Name: "tcp-echo", Namespace: "default"})}
	step := func(typ access.Type, received, sent uint64) {
		r.Type, r.BytesReceived, r.BytesSent = typ, received, sent
		m.Log(0, r)
	}
	want := func(why string, values ...string) {
		t.Helper()
		got := ""
		for _, line := range strings.Split(string(istio.AppendPrometheus(nil, stats.Options{}, nil)), "\n") {
			if strings.HasPrefix(line, "istio_tcp_") && !strings.Contains(line, "# ") {
				name, _, _ := strings.Cut(strings.TrimPrefix(line, "istio_tcp_"), "{")
				got += name + "=" + line[strings.LastIndexByte(line, ' ')+1:] + " "
			}
		}
		if w := strings.Join(values, " ") + " "; got != w {
			t.Errorf("%s: found %s, want %s", why, got, w)
		}
	}
	step(access.TCPUpstreamConnected, 0, 0)
	want("joined", "connections_opened_total=1", "connections_closed_total=0", "sent_bytes_total=0", "received_bytes_total=0")
	step(access.TCPPeriodic, 10, 3)
	step(access.TCPPeriodic, 25, 3)
	want("on its way", "connections_opened_total=1", "connections_closed_total=0", "sent_bytes_total=3", "received_bytes_total=25")
	step(access.TCPConnectionEnd, 26, 4)
	want("ended", "connections_opened_total=1", "connections_closed_total=1", "sent_bytes_total=4", "received_bytes_total=26")
	r.ConnectionID = 8
	step(access.TCPConnectionEnd, 0, 0)
	want("one that reached no host", "connections_opened_total=2", "connections_closed_total=2", "sent_bytes_total=4", "received_bytes_total=26")
	if n := len(m.shards[0].open); n != 0 {
		t.Errorf("%d connections are still remembered, want none", n)
	}

	r = &access.Record{ConnectionID: 9, ClusterRaw: "PassthroughCluster"}
	step(access.TCPUpstreamConnected, 0, 0)
	if text := string(istio.AppendPrometheus(nil, stats.Options{}, nil)); !strings.Contains(text, `destination_service="unknown"`) || !strings.Contains(text, `destination_service_name="PassthroughCluster"`) {
		t.Errorf("a connection to where no service is does not name PassthroughCluster:\n%s", text)
	}
}

// A request whose content is gRPC's is one of gRPC, with its status.
func TestProtocolOfRequests(t *testing.T) {
	for _, test := range []struct{ contentType, status, want string }{
		{"application/grpc", "5", `request_protocol="grpc",response_code="200",grpc_response_status="5"`},
		{"application/grpc+proto", "0", `request_protocol="grpc",response_code="200",grpc_response_status="0"`},
		{"application/json", "", `request_protocol="http",response_code="200",grpc_response_status=""`},
		{"application/grpc-web", "", `request_protocol="http",response_code="200",grpc_response_status=""`},
	} {
		istio := stats.NewIstio(stats.IstioOptions{})
		m := &istioMetrics{shards: []*shardMetrics{newShardMetrics(istio)}, reporter: stats.Dest}
		request, response := new(header.Map), new(header.Map)
		request.SetCopy(header.ContentType, []byte(test.contentType))
		if test.status != "" {
			response.SetCopy(header.GrpcStatus, []byte(test.status))
		}
		m.Log(0, &access.Record{Type: access.DownstreamEnd, Code: 200, Request: request, Response: response})
		if text := string(istio.AppendPrometheus(nil, stats.Options{}, nil)); !strings.Contains(text, test.want) {
			t.Errorf("%s: want %s in\n%s", test.contentType, test.want, text)
		}
	}
}
