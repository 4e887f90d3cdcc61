package machines

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

const group = `
metadata: {name: db, namespace: prod, uid: g1}
spec:
  metadata: {labels: {app: db, tier: group}, annotations: {team: data}}
  template: {ports: {tcp: 15432}, serviceAccount: db, labels: {app: template, class: vm}, weight: 2}
  probe: {periodSeconds: 3, httpGet: {port: 80}}
`

// A cluster is an API server that holds entries, and the configuration that a control plane has of it.
type cluster struct {
	t     *testing.T
	api   *dynamicfake.FakeDynamicClient
	store config.Store
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, api: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{entries(): "WorkloadEntryList"})}
	g := &networkingv1.WorkloadGroup{}
	if err := yaml.Unmarshal([]byte(group), g); err != nil {
		t.Fatal(err)
	}
	c.put("WorkloadGroup", g)
	return c
}

func (c *cluster) put(kindName string, value runtime.Object) {
	k, _ := kind.Named(kindName)
	o, err := config.FromTyped(k, value)
	if err != nil {
		c.t.Fatal(err)
	}
	c.store.Put(o)
}

// plane starts a control plane.
func (c *cluster) plane(ctx context.Context, name string) *Registry {
	r := New(Options{Client: c.api, Snapshot: c.store.Snapshot, Name: name, Log: slog.New(slog.DiscardHandler)})
	go r.Run(ctx)
	return r
}

// entry shows what there is of the entry.
func (c *cluster) entry() string {
	c.t.Helper()
	synctest.Wait()
	list, err := c.api.Resource(entries()).Namespace("prod").List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if len(list.Items) == 0 {
		return "none"
	}
	e := list.Items[0]
	a := e.GetAnnotations()
	out := []string{e.GetName(), "by " + a[controllerAnnotation]}
	if a[sinceAnnotation] != "" {
		out = append(out, "connected")
	}
	if a[goneAnnotation] != "" {
		out = append(out, "gone")
	}
	conditions, _, _ := unstructured.NestedSlice(e.Object, "status", "conditions")
	for _, x := range conditions {
		m := x.(map[string]any)
		out = append(out, fmt.Sprint(m["type"], "=", m["status"]))
		if m["message"] != nil {
			out = append(out, fmt.Sprint(m["message"]))
		}
	}
	return strings.Join(out, " ")
}

func (c *cluster) want(want string) {
	c.t.Helper()
	if got := c.entry(); got != want {
		c.t.Errorf("at %s the entry is %q, want %q", time.Now().Format("15:04:05"), got, want)
	}
}

func proxyOf(metadata ...string) *model.Proxy {
	p := &model.Proxy{Namespace: "prod", ServiceAccount: "db", Proven: true, IPs: []netip.Addr{netip.MustParseAddr("192.0.2.7")},
		Labels: map[string]string{"app": "mine", "istio-locality": "r.z"}, Locality: "r/z", Metadata: map[string]string{"AUTO_REGISTER_GROUP": "db"}}
	for i := 0; i < len(metadata); i += 2 {
		p.Metadata[metadata[i]] = metadata[i+1]
	}
	return p
}

// A machine is registered while its proxy is connected, and ten seconds longer.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := newCluster(t)
		r := c.plane(ctx, "a")
		first, err := r.Join(proxyOf())
		if err != nil {
			t.Fatal(err)
		}
		c.want("db-192.0.2.7 by a connected")
		second, err := r.Join(proxyOf()) // it connects anew before the old connection is seen to have ended
		if err != nil {
			t.Fatal(err)
		}
		first.Leave()
		time.Sleep(time.Minute)
		c.want("db-192.0.2.7 by a connected")
		second.Leave()
		c.want("db-192.0.2.7 by a gone")
		time.Sleep(9 * time.Second)
		c.want("db-192.0.2.7 by a gone")
		third, err := r.Join(proxyOf())
		if err != nil {
			t.Fatal(err)
		}
		c.want("db-192.0.2.7 by a connected")
		time.Sleep(time.Minute)
		c.want("db-192.0.2.7 by a connected")
		third.Leave()
		time.Sleep(9900 * time.Millisecond)
		c.want("db-192.0.2.7 by a gone")
		time.Sleep(200 * time.Millisecond)
		c.want("none")
		if len(r.members) != 0 {
			t.Errorf("what is gone is remembered: %v", r.members)
		}
	})
}

// A proxy that goes on at another control plane keeps its entry, and what a dead one left is removed by the others.
func TestSeveralControlPlanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := newCluster(t)
		a, b := c.plane(ctx, "a"), c.plane(ctx, "b")
		old, err := a.Join(proxyOf())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Join(proxyOf()); err != nil {
			t.Fatal(err)
		}
		old.Leave()
		time.Sleep(time.Minute)
		c.want("db-192.0.2.7 by b connected")

		list, err := c.api.Resource(entries()).List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e := &networkingv1.WorkloadEntry{}
		text, _ := json.Marshal(list.Items[0].Object)
		if err := json.Unmarshal(text, e); err != nil {
			t.Fatal(err)
		}
		c.put("WorkloadEntry", e)
		b.mu.Lock()
		delete(b.members, model.Name{Namespace: "prod", Name: "db-192.0.2.7"}) // as if b had died and come back
		b.mu.Unlock()
		time.Sleep(40 * time.Minute)
		c.want("db-192.0.2.7 by b connected")
		time.Sleep(6 * time.Minute)
		c.want("none")
	})
}

// The entry is the group's template with the labels of group and proxy, and the proxy is what its entry says.
func TestEntry(t *testing.T) {
	c := newCluster(t)
	p := proxyOf("NETWORK", "vm", "MALLA_PROBES", "true")
	if _, err := New(Options{Client: c.api, Snapshot: c.store.Snapshot, Name: "a", Log: slog.New(slog.DiscardHandler)}).Join(p); err != nil {
		t.Fatal(err)
	}
	e, err := c.api.Resource(entries()).Namespace("prod").Get(t.Context(), "db-192.0.2.7-vm", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	annotations := e.GetAnnotations()
	delete(annotations, sinceAnnotation)
	got, _ := json.Marshal(map[string]any{"labels": e.GetLabels(), "annotations": annotations, "owner": e.GetOwnerReferences()[0].Kind + " " + string(e.GetOwnerReferences()[0].UID), "spec": e.Object["spec"]})
	want := `{"annotations":{"istio.io/autoRegistrationGroup":"db","istio.io/workloadController":"a","proxy.istio.io/health-checks-enabled":"true","team":"data"},` +
		`"labels":{"app":"mine","class":"vm","tier":"group"},"owner":"WorkloadGroup g1",` +
		`"spec":{"address":"192.0.2.7","labels":{"app":"mine","class":"vm","tier":"group"},"locality":"r/z","network":"vm","ports":{"tcp":15432},"serviceAccount":"db","weight":2}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if p.Labels["tier"] != "group" || strings.ReplaceAll(p.Probe, " ", "") != `{"periodSeconds":3,"httpGet":{"port":80}}` {
		t.Errorf("the proxy's labels are %v, and its probe is %s", p.Labels, p.Probe)
	}
}

// What a proxy says of its application is the condition Healthy; it is written when it is another one.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := newCluster(t)
		m, err := c.plane(ctx, "a").Join(proxyOf())
		if err != nil {
			t.Fatal(err)
		}
		m.Health("")
		c.want("db-192.0.2.7 by a connected Healthy=True")
		n := len(c.api.Actions())
		m.Health("")
		synctest.Wait()
		for _, a := range c.api.Actions()[n:] {
			if a.GetVerb() != "get" {
				t.Errorf("what is not new is written: %v", a)
			}
		}
		m.Health("HTTP probe failed with statuscode: 503")
		c.want("db-192.0.2.7 by a connected Healthy=False HTTP probe failed with statuscode: 503")
	})
}

func TestWhoIsNotRegistered(t *testing.T) {
	c := newCluster(t)
	other := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": map[string]any{"name": "db-192.0.2.8", "namespace": "prod"}}}
	if _, err := c.api.Resource(entries()).Namespace("prod").Create(t.Context(), other, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := New(Options{Client: c.api, Snapshot: c.store.Snapshot, Log: slog.New(slog.DiscardHandler)})
	for _, test := range []struct {
		change func(*model.Proxy)
		want   string
	}{
		{func(p *model.Proxy) { p.Metadata["AUTO_REGISTER_GROUP"] = "web" }, "there is no WorkloadGroup prod/web"},
		{func(p *model.Proxy) { p.Proven = false }, "shows no certificate"},
		{func(p *model.Proxy) { p.ServiceAccount = "web" }, `service account "web", the template's serviceAccount is "db"`},
		{func(p *model.Proxy) { p.IPs[0] = netip.MustParseAddr("192.0.2.8") }, "there already, and no entry of group db"},
		{func(p *model.Proxy) { p.Metadata = map[string]string{"WORKLOAD_ENTRY": "x"} }, "there is no WorkloadEntry prod/x"},
	} {
		p := proxyOf()
		test.change(p)
		if m, err := r.Join(p); err == nil || m != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, %v; want %q", m, err, test.want)
		}
	}
	if m, err := r.Join(&model.Proxy{}); m != nil || err != nil {
		t.Errorf("a proxy that registers nothing: %v, %v", m, err)
	}
}
