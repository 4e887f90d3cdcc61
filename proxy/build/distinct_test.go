package build

import (
	"strings"
	"testing"
)

// Two static clusters of one name and two listeners at one address are refused, as by Envoy, all of them at once.
func TestDistinct(t *testing.T) {
	m, err := ParseBootstrap("b.yaml", []byte(`
static_resources:
  listeners:
  - {name: a, address: {socket_address: {address: 127.0.0.1, port_value: 1001}}}
  - {name: b, address: {socket_address: {address: 127.0.0.1, port_value: 1002}}, additional_addresses: [{address: {socket_address: {address: 127.0.0.1, port_value: 1001}}}]}
  - {name: c, address: {socket_address: {address: 127.0.0.1, port_value: 1001}}, bind_to_port: false}
  - {name: a, address: {socket_address: {address: 127.0.0.1, port_value: 1001}}}
  - {name: d, address: {socket_address: {address: 0.0.0.0, port_value: 1001}}}
  - {name: e, address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
  - {name: f, address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
  clusters:
  - {name: x, type: STATIC}
  - {name: z, type: STATIC}
  - {name: x, type: STATIC}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewBootstrap("b.yaml", m)
	want := []string{
		`static_resources.clusters[2].name: found "x", the name of static_resources.clusters[0]`,
		`static_resources.listeners[1].additional_addresses[0].address: found 127.0.0.1:1001, the address of listener "a" (static_resources.listeners[0].address)`,
		`static_resources.listeners[2].address: found 127.0.0.1:1001, the address of listener "a" (static_resources.listeners[0].address)`,
	}
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("errors\n%v\nlack %s", err, w)
		}
	}
	if err != nil && strings.Count(err.Error(), "found ") != len(want) {
		t.Errorf("errors\n%v\nare more than %d", err, len(want))
	}
}
