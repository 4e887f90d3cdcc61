package build

import (
	"fmt"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mallamesh/malla/proxy/listen"
)

// faultListener is a listener with a TCP fault of these fields.
func faultListener(value string) string {
	return fmt.Sprintf(`{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}, "filter_chains": [{"filters": [
{"name": "malla.filters.network.tcp_fault", "typed_config": {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": %q, "value": %s}},
{"name": "tcp", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "t", "cluster": "c"}}]}]}`, tcpFaultType, value)
}

func listenerOf(t *testing.T, text string) (*listen.Config, error) {
	t.Helper()
	m := &listenerv3.Listener{}
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	l, err := readListener(m, testEnv(t), nil, nil)
	if err != nil {
		return nil, err
	}
	return l.Config, nil
}

// The TCP fault comes as a struct, of which every field is read, and what cannot be meant is refused with its path.
func TestTCPFault(t *testing.T) {
	for _, test := range []struct{ value, want string }{
		{`{"stat_prefix": "x", "refuse": {"percentage": 1.5}, "delay": {"percentage": 50, "fixed_delay": "0.2s"}, "reset": {"percentage": 100, "after_bytes": 1000}}`, ""},
		{`{"refuse": {"percentage": 101}}`, "value.refuse.percentage: found 101, want 0 to 100"},
		{`{"delay": {"percentage": 1}}`, `value.delay.fixed_delay: found "", want a time span`},
		{`{"reset": {"percentage": 1, "after_bytes": -1}}`, "value.reset.after_bytes: found -1"},
		{`{"rest": {}}`, `value: unknown field "rest"`},
		{`{"refuse": {"percentage": "all"}}`, "value: cannot unmarshal string"},
	} {
		l, err := listenerOf(t, faultListener(test.value))
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %s", test.value, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		f := *l.Chains[0].Gates[0].(*listen.Fault)
		f.Stats = nil
		if f != (listen.Fault{Refuse: 1.5, Delay: 50, Wait: 200 * time.Millisecond, Reset: 100, After: 1000}) {
			t.Errorf("read %+v", f)
		}
	}
	if _, err := listenerOf(t, strings.Replace(faultListener("{}"), "tcp_fault.v1", "tcp_fault.v2", 1)); err == nil || !strings.Contains(err.Error(), "type_url: found") {
		t.Errorf("another type: %v", err)
	}
}
