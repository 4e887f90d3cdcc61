package compile_test

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/model"
)

// TLS around TLS, and selectors that select nothing, are told.
func TestEntries(t *testing.T) {
	const rule = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: wiki, namespace: prod}
spec:
  host: wiki.test
  trafficPolicy:
    portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}, {port: {number: 80}, tls: {mode: SIMPLE}}]
`
	entry := func(s model.Service) *model.Service {
		s.Namespace, s.From = "prod", model.Ref{Kind: "ServiceEntry", Namespace: "prod", Name: s.Host}
		return &s
	}
	got := told(t, rule,
		entry(model.Service{Host: "wiki.test", Resolution: model.DNSStrict, Ports: []model.Port{{Number: 80, Protocol: model.HTTP}, {Number: 443, Protocol: model.HTTPS}}}),
		entry(model.Service{Host: "empty.test", Selector: map[string]string{"app": "nobody"}, Ports: []model.Port{{Number: 80, Protocol: model.HTTP}}}))
	for _, want := range []string{
		"DestinationRule prod/wiki: spec.trafficPolicy: port 443 of wiki.test is declared HTTPS",
		"ServiceEntry prod/empty.test: spec.workloadSelector: no pod and no WorkloadEntry of namespace prod has the labels app=nobody",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not told %q, but:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 2 {
		t.Errorf("%d findings, want 2:\n%s", n, got)
	}

	// Requests that a rule sends there are no TLS yet: so Istio's documents have TLS begun, at an egress gateway or from port 80.
	const route = `---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wiki, namespace: prod}
spec: {hosts: [wiki.test], http: [{match: [{port: 80}], route: [{destination: {host: wiki.test, port: {number: 443}}}]}]}
`
	if got := told(t, rule+route, entry(model.Service{Host: "wiki.test", Resolution: model.DNSStrict,
		Ports: []model.Port{{Number: 80, Protocol: model.HTTP}, {Number: 443, Protocol: model.HTTPS}}})); got != "" {
		t.Errorf("TLS that begins at the proxy: %s", got)
	}
}
