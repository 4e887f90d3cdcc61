package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mallamesh/malla/api/machine"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A machine that registers itself has to be told neither its name nor its addresses, as by the files of Istio's
// `workload entry configure`.
func TestMachineKnowsItself(t *testing.T) {
	e, err := from(t, Options{}, map[string]string{
		"POD_NAMESPACE": "prod", "SERVICE_ACCOUNT": "db", "ISTIO_META_AUTO_REGISTER_GROUP": "db",
		"ISTIO_METAJSON_LABELS": `{"app": "db"}`, "ISTIO_METAJSON_MORE": `{"a": [1]}`,
		"PROXY_CONFIG": `{"readinessProbe":{"periodSeconds":5,"httpGet":{"port":8080}},"proxyMetadata":{"ISTIO_META_NETWORK":"vm","ISTIO_META_X":"y"}}`,
		"ISTIO_META_X": "z",
	})
	if err != nil {
		t.Fatal(err)
	}
	node, err := e.node()
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ = strings.Cut(host, ".")
	fields := node.GetMetadata().GetFields()
	if e.Pod != host || net.ParseIP(e.IPs[0]) == nil || e.Labels["app"] != "db" || fields["NETWORK"].GetStringValue() != "vm" || fields["X"].GetStringValue() != "z" ||
		fields["MORE"].GetStructValue() == nil || fields["PROXY_CONFIG"].GetStructValue().GetFields()["readinessProbe"] == nil {
		t.Errorf("%s is %s at %v, labels %v, metadata %v", host, e.Pod, e.IPs, e.Labels, fields)
	}
	if p := e.Probe.pace().WithDefaults(); p.Period != 5*time.Second || p.Timeout != time.Second || p.Failures != 3 {
		t.Errorf("the probe's pace is %+v", p)
	}
	if _, err := from(t, Options{}, map[string]string{"POD_NAMESPACE": "prod", "ISTIO_META_AUTO_REGISTER_GROUP": "db", "ISTIO_METAJSON_LABELS": "app=db"}); err == nil || !strings.Contains(err.Error(), "ISTIO_METAJSON_LABELS") {
		t.Errorf("labels that are not JSON: %v", err)
	}
}

// An application is asked in every way of Kubernetes' probes.
func TestWaysToAsk(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	e := &environment{IPs: []string{"127.0.0.1"}}
	for _, test := range []struct{ probe, want string }{
		{`{httpGet: {port: PORT, path: /}}`, "HTTP probe failed with statuscode: 404: 404 page not found"},
		{`{tcpSocket: {port: PORT}}`, ""},
		{`{tcpSocket: {port: 1}}`, "connection refused"},
		{`{exec: {command: ["true"]}}`, ""},
		{`{exec: {command: [sh, -c, "echo no; exit 3"]}}`, "exit status 3 no"},
		{`{grpc: {port: PORT}}`, "Unavailable"},
		{`{}`, "says nothing"},
	} {
		c, err := readProxyConfig("readinessProbe: " + strings.ReplaceAll(test.probe, "PORT", port))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		ask, err := c.ReadinessProbe.try(e.IPs[0], e.toApplication(true))
		if err == nil {
			err = ask.try(ctx)
		}
		cancel()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: got %v, want %q", test.probe, err, test.want)
		}
	}
}

// What a proxy says of its application: the trouble when there is one, and nothing when it is over. Before it is ready
// itself the application is not well.
func TestHealthIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, err := machine.Pack([]byte(`{"periodSeconds": 1, "failureThreshold": 1, "tcpSocket": {"port": 1}}`))
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		at := func(s float64) bool { return time.Since(began) < time.Duration(s*float64(time.Second)) }
		dial := func(context.Context, string, string) (net.Conn, error) {
			if at(3) {
				return nil, errors.New("nobody listens")
			}
			a, b := net.Pipe()
			a.Close()
			return b, nil
		}
		var said []string
		ctx, cancel := context.WithTimeout(t.Context(), 6500*time.Millisecond)
		defer cancel()
		h := &health{own: "127.0.0.1", ready: func() (bool, string) { return !at(1), "starting" }, dial: dial, probes: make(chan *readinessProbe, 1),
			report: func(r *xdsclient.Request) { said = append(said, r.GetErrorDetail().GetMessage()) }}
		if refused := h.take(xdsclient.Update{Resources: []xdsclient.Resource{{Name: "probe", Body: body}}}); len(refused) > 0 {
			t.Fatal(refused)
		}
		err = h.run(ctx)
		if got := strings.Join(said, "|"); err != nil || got != "starting|" {
			t.Errorf("said %q, %v", got, err)
		}
	})
}
