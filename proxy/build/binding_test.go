package build_test

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A cluster binds one address of each family and no port; what could not be heeded is refused.
func TestSourceAddresses(t *testing.T) {
	const more = "source_address: {address: 10.0.0.1, port_value: 0}, "
	for bind, want := range map[string]string{
		more + "extra_source_addresses: [{address: {address: '::1', port_value: 0}}]":                                                                    "",
		more + "additional_source_addresses: [{address: '::1', port_value: 0}]":                                                                          "",
		"source_address: {address: 10.0.0.1, port_value: 80}":                                                                                            "upstream_bind_config.source_address.port_value: found 80, want 0",
		more + "additional_source_addresses: [{address: 10.0.0.2, port_value: 0}]":                                                                       `upstream_bind_config.additional_source_addresses[0].address: found "10.0.0.2", a second address of its family`,
		more + "extra_source_addresses: [{address: {address: '::1', port_value: 0}}], additional_source_addresses: [{address: 10.0.0.2, port_value: 0}]": "upstream_bind_config.additional_source_addresses: is set beside extra_source_addresses",
		more + "local_address_selector: {name: x}":                                                                                                       "upstream_bind_config.local_address_selector: is not supported",
	} {
		refused := newWorld(t).Apply(xdsclient.Update{Type: xdsclient.ClusterType, Resources: []xdsclient.Resource{
			resource(t, "a", &clusterv3.Cluster{}, "{name: a, type: STATIC, upstream_bind_config: {"+bind+"}}"),
		}})
		switch {
		case want == "" && len(refused) > 0:
			t.Errorf("%s: refused: %v", bind, refused[0].Err)
		case want != "" && (len(refused) != 1 || !strings.HasPrefix(refused[0].Err.Error(), want)):
			t.Errorf("%s:\n got %v\nwant %s", bind, refused, want)
		}
	}
}
