package build

import (
	"math"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Whatever breaks a rule of Envoy's API is told, by the path that its author wrote, with what was found: all at once.
func TestValuesByEnvoysRules(t *testing.T) {
	route := func(r *routev3.Route) proto.Message {
		r.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
		return &routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{{Name: "v", Domains: []string{"*"}, Routes: []*routev3.Route{r}}}}
	}
	to := func(a *routev3.RouteAction) proto.Message {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: "c"}
		return route(&routev3.Route{Action: &routev3.Route_Route{Route: a}})
	}
	for _, test := range []struct {
		what string
		m    proto.Message
		want string
	}{
		{"text that ends a line", to(&routev3.RouteAction{PrefixRewrite: "/a\r\nb: c"}),
			`virtual_hosts[0].routes[0].route.prefix_rewrite: found "/a\r\nb: c", want text without line feed, carriage return and NUL`},
		{"two mistakes", &clusterv3.Cluster{ConnectTimeout: durationpb.New(0)}, "name: is empty\nconnect_timeout: found 0s, want one that is greater than 0s"},
		{"a number in a message of its own", &clusterv3.Cluster{Name: "c", OutlierDetection: &clusterv3.OutlierDetection{EnforcingConsecutive_5Xx: wrapperspb.UInt32(101)}},
			"outlier_detection.enforcing_consecutive_5xx: found 101, want one that is less than or equal to 100"},
		{"no number", &clusterv3.Cluster{Name: "c", CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: math.NaN()}}},
			"common_lb_config.healthy_panic_threshold.value: found NaN, want a number"},
		{"nothing of several", route(&routev3.Route{Action: nil}), "virtual_hosts[0].routes[0]: nothing is set of route, redirect, direct_response, filter_action, non_forwarding_action, want one of them"},
		{"a message that is to be there", to(&routev3.RouteAction{RetryPolicy: &routev3.RetryPolicy{RetryBackOff: &routev3.RetryPolicy_RetryBackOff{}}}),
			"virtual_hosts[0].routes[0].route.retry_policy.retry_back_off.base_interval: is not set"},
		{"one of a list", &corev3.SchemeHeaderTransformation{Transformation: &corev3.SchemeHeaderTransformation_SchemeToOverwrite{SchemeToOverwrite: "ftp"}},
			`scheme_to_overwrite: found "ftp", want one of [http https]`},
		{"a stat prefix", &hcmv3.HttpConnectionManager{RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{}}}, "stat_prefix: is empty"},
		{"a long text", &corev3.HeaderValue{Key: strings.Repeat("ä", 100) + "\n"}, `key: found "` + strings.Repeat("ä", 40) + `"... (201 bytes), want text without`},
	} {
		errs := Check(test.m)
		if got := errs.Error(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s:\n got %s\nwant %s", test.what, got, test.want)
		}
	}
}

// What is added to messages has a header's name, and says nothing about the length of a body.
func TestNamesOfAddedHeaders(t *testing.T) {
	for name, want := range map[string]string{"x-a": "", "X-A": "", "a b": `key: found "a b", want a name`, "Content-Length": `key: found "Content-Length", which only the body`} {
		r := &reader{env: &Env{}}
		r.headerValues([]*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: name, Value: "1"}}}, nil)
		if got := r.errs.Error(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: found %q, want %q", name, got, want)
		}
	}
}
