package xds

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

func TestNodeOfASidecar(t *testing.T) {
	metadata, _ := structpb.NewStruct(map[string]any{
		"INSTANCE_IPS": "10.244.0.7,fd00::7", "LABELS": map[string]any{"app": "reviews"}, "WORKLOAD_NAME": "reviews-v1"})
	p, err := ParseNode(&corev3.Node{Id: "sidecar~10.244.0.7~reviews-v1-abc.default~default.svc.cluster.local", Metadata: metadata},
		pki.ID{TrustDomain: "cluster.local", Namespace: "default", Account: "reviews"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Type != model.Sidecar || p.Name != "reviews-v1-abc" || p.Namespace != "default" || len(p.IPs) != 2 ||
		p.Labels["app"] != "reviews" || p.ServiceAccount != "reviews" || p.Metadata["WORKLOAD_NAME"] != "reviews-v1" || p.Stock {
		t.Errorf("got %+v", p)
	}
}

func TestNodesThatAreRefused(t *testing.T) {
	inDefault := pki.ID{TrustDomain: "cluster.local", Namespace: "default", Account: "a"}
	for _, test := range []struct{ id, want string }{
		{"", "want an id"},
		{"sidecar~10.0.0.1~pod", "want an id"},
		{"ztunnel~10.0.0.1~a.default~x", "ztunnel"},
		{"sidecar~nowhere~a.default~x", "nowhere"},
		{"sidecar~10.0.0.1~a~x", "<pod>.<namespace>"},
		{"sidecar~10.0.0.1~a.bank~x", "may not have the configuration of namespace \"bank\""}, // no reading of others' configuration
	} {
		_, err := ParseNode(&corev3.Node{Id: test.id}, inDefault)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: got %v, want it to say %q", test.id, err, test.want)
		}
	}
}

func TestNodeHasOneNamespace(t *testing.T) {
	// Else a certificate of one namespace would fetch, and fill the cache of, a pod of another.
	metadata, _ := structpb.NewStruct(map[string]any{"NAMESPACE": "default"})
	_, err := ParseNode(&corev3.Node{Id: "sidecar~10.0.0.1~a.bank~x", Metadata: metadata}, pki.ID{TrustDomain: "cluster.local", Namespace: "default", Account: "a"})
	if err == nil || !strings.Contains(err.Error(), "bank") {
		t.Errorf("got %v", err)
	}
}

func TestReplicasShareAClass(t *testing.T) {
	parse := func(id, labels string) *model.Proxy {
		m, _ := structpb.NewStruct(map[string]any{"LABELS": map[string]any{"app": labels}, "NAME": id})
		p, err := ParseNode(&corev3.Node{Id: id, Metadata: m}, pki.ID{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := parse("sidecar~10.0.0.1~a-1.default~x", "a")
	b := parse("sidecar~10.0.0.2~a-2.default~x", "a")
	c := parse("sidecar~10.0.0.3~c-1.default~x", "c")
	if class(a) != class(b) {
		t.Errorf("replicas differ:\n%s\n%s", class(a), class(b))
	}
	if class(a) == class(c) {
		t.Error("other labels, same class: selectors would be mixed up")
	}
}
