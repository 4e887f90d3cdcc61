package xds

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

// Replicas of a gateway share what is translated, but not its listeners where each listens on a
// port that a service has for its address.
func TestAGatewaysPortsMayBeItsOwn(t *testing.T) {
	for _, service := range []string{
		"gw.prod host=gw.test 80/http select=app=gw", // each endpoint of a ServiceEntry has a port
		"gw.prod host=gw.test 80/http",
	} {
		s, err := story.Read(txtar.Parse([]byte(`
-- config.yaml --
kind: Gateway
metadata: {name: gw, namespace: prod}
spec: {selector: {app: gw}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
-- services --
` + service + `
-- endpoints --
gw.test 10.244.0.7:8080
gw.test 10.244.0.8:8081
`)))
		if err != nil {
			t.Fatal(err)
		}
		mesh := NewMesh(Translation{Names: translate.Names, Resource: translate.Resource, Own: translate.Own}, s.View.Mesh, time.Now())
		for _, test := range []struct{ address, has, lacks string }{
			{"10.244.0.7", "0.0.0.0_8080", "0.0.0.0_8081"},
			{"10.244.0.8", "0.0.0.0_8081", "0.0.0.0_8080"},
			{"10.244.0.9", "0.0.0.0_80", "0.0.0.0_8080"}, // is behind no service
		} {
			r := mesh.For(&model.Proxy{
				ID: test.address, Type: model.Router, Namespace: "prod",
				Labels: map[string]string{"app": "gw"}, IPs: []netip.Addr{netip.MustParseAddr(test.address)},
			}).Resources()
			if _, ok := r.Resource(ListenerType, test.lacks); ok {
				t.Errorf("%s: %s has the listener %s of another", service, test.address, test.lacks)
			}
			if _, ok := r.Resource(ListenerType, test.has); !ok {
				t.Errorf("%s: %s has no listener %s", service, test.address, test.has)
			}
		}
	}
}
