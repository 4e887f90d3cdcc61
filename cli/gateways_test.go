package cli

import "testing"

func TestTheWordGatewayMeansBothKinds(t *testing.T) {
	both := func() []string { return []string{"gateways.networking.istio.io", "gateways.gateway.networking.k8s.io"} }
	for _, test := range []struct{ typed, want string }{
		{"gateway", "gateways.networking.istio.io,gateways.gateway.networking.k8s.io"},
		{"Gateways", "gateways.networking.istio.io,gateways.gateway.networking.k8s.io"},
		{"vs,gateway", "vs,gateways.networking.istio.io,gateways.gateway.networking.k8s.io"},
		{"gateways.networking.istio.io", "gateways.networking.istio.io"}, // who says the group gets it alone
		{"gateway/mine", "gateway/mine"},
		{"gtw", "gtw"},
	} {
		if got := spread(test.typed, both); got != test.want {
			t.Errorf("%s: got %s, want %s", test.typed, got, test.want)
		}
	}
}
