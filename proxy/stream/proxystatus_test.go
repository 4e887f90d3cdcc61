package stream

import (
	"testing"

	"github.com/mallamesh/malla/proxy/access"
)

// Details say why a connection was ended, unless they are not to. No scenario shows it: what ends a connection so
// lets no response be sent.
func TestProxyStatusTellsOfTermination(t *testing.T) {
	rec := &access.Record{CodeDetails: "upstream_reset", Termination: "rbac \"x\""}
	for _, test := range []struct {
		status ProxyStatus
		want   string
	}{
		{ProxyStatus{Name: "p", NoFlags: true}, `p; error=dns_error; details="upstream_reset; rbac \"x\""`},
		{ProxyStatus{Name: "p", NoFlags: true, NoTermination: true}, `p; error=dns_error; details="upstream_reset"`},
		{ProxyStatus{Name: "p", NoDetails: true}, `p; error=dns_error`},
	} {
		if got := string(test.status.text(nil, dnsError, rec)); got != test.want {
			t.Errorf("%+v: %s, want %s", test.status, got, test.want)
		}
	}
}
