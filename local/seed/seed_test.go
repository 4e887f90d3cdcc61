package seed

import "testing"

func TestManifestsRead(t *testing.T) {
	for name, text := range map[string][]byte{"istiod": istiod, "istio": istio, "ingressgateway": ingressGateway} {
		for _, o := range objects(name, text) {
			mustGVR(o.GetKind())
			if o.GetNamespace() != Namespace {
				t.Errorf("%s: %s %s is in namespace %q", name, o.GetKind(), o.GetName(), o.GetNamespace())
			}
		}
	}
}

func TestWhoNeedsTheDefaultGateway(t *testing.T) {
	usual := map[string]string{"istio": "ingressgateway"}
	for _, test := range []struct {
		name      string
		selectors []map[string]string
		workloads []map[string]string
		want      bool
	}{
		{"no Gateway needs none", nil, nil, false},
		{"the usual selector with nothing behind it", []map[string]string{usual}, nil, true},
		{"somebody brought a gateway", []map[string]string{usual}, []map[string]string{{"istio": "ingressgateway", "app": "mine"}}, false},
		{"a selector of one's own is not ours to serve", []map[string]string{{"istio": "egressgateway"}}, nil, false},
		{"one of two is served", []map[string]string{{"istio": "egressgateway"}, usual}, []map[string]string{{"istio": "egressgateway"}}, true},
	} {
		if got := NeedsIngressGateway(test.selectors, test.workloads); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}
