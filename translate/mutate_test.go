package translate_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/compile/istio"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/crd"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
	meshconfig "github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/config/validate"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/proxy/build"
	registries "github.com/mallamesh/malla/registry"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

// bystander is a mesh whose proxy in namespace other sees its own namespace only: nothing
// that anybody writes in namespace mutant may change what it gets.
const bystander = `
kind: Sidecar
metadata: {name: default, namespace: other}
spec: {egress: [{hosts: ["./*"]}]}
---
kind: VirtualService
metadata: {name: web, namespace: other}
spec: {hosts: [web], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: web, subset: v1}}]}, {route: [{destination: {host: web}}]}]}
---
kind: DestinationRule
metadata: {name: web, namespace: other}
spec: {host: web, trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}, subsets: [{name: v1, labels: {version: v1}}]}
---
kind: PeerAuthentication
metadata: {name: default, namespace: other}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{name: http, port: 8080}, {name: tcp, port: 9090}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
`

// hang is longer than any document takes, whatever it says, be the machine as busy as it likes.
const hang = time.Minute

// TestMutants feeds each kind thousands of documents that somebody nearly got right. None of them
// makes anything panic or hang, and what is accepted changes nothing for those who have
// nothing to do with it.
func TestMutants(t *testing.T) {
	seeds := seedDocuments(t)
	total := 10_000
	if testing.Short() {
		total = 500
	}
	for _, k := range kind.All {
		if k.Class != kind.Used {
			continue
		}
		if len(seeds[k.Key()]) == 0 {
			t.Errorf("no story and no sample has a %s to make mutants of", k.Key())
			continue
		}
		t.Run(k.Key(), func(t *testing.T) {
			t.Parallel()
			name := fnv.New64a()
			name.Write([]byte(k.Key()))
			r := rand.New(rand.NewPCG(1, name.Sum64()))
			world := newBystander(t)
			accepted := 0
			for i := range total {
				doc := mutant(r, pick(r, seeds[k.Key()]))
				start := time.Now()
				if good := feed(t, world, doc, i%(total/500) == 0); good {
					accepted++
				}
				if took := time.Since(start); took > hang {
					t.Errorf("took %s: %s", took, text(doc))
				}
				if t.Failed() {
					return
				}
			}
			if accepted == 0 {
				t.Errorf("of %d mutants none was accepted: they test nothing", total)
			}
		})
	}
}

// TestMutantsOfTexts does so with the settings of the mesh and its networks, which are text in a ConfigMap: what is accepted can be translated.
func TestMutantsOfTexts(t *testing.T) {
	for file, parse := range map[string]func(string) (model.MeshConfig, field.List){
		"meshconfig.yaml": func(text string) (model.MeshConfig, field.List) {
			cfg, errs, _ := meshconfig.Parse(text, model.DefaultMeshConfig(), nil)
			return cfg, errs
		},
		"meshnetworks.yaml": func(text string) (model.MeshConfig, field.List) {
			cfg := model.DefaultMeshConfig()
			var errs field.List
			cfg.Networks, errs, _ = meshconfig.ParseNetworks(text, nil)
			return cfg, errs
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			mutantsOfText(t, file, parse)
		})
	}
}

func mutantsOfText(t *testing.T, file string, parse func(string) (model.MeshConfig, field.List)) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var seeds []map[string]any
	for _, name := range files {
		a, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			var doc map[string]any
			if f.Name != file || yaml.Unmarshal(f.Data, &doc) != nil || len(doc) == 0 {
				continue
			}
			seeds = append(seeds, map[string]any{"spec": doc})
		}
	}
	if len(seeds) == 0 {
		t.Fatalf("no story has a %s", file)
	}
	total := 10_000
	if testing.Short() {
		total = 500
	}
	r := rand.New(rand.NewPCG(1, 2))
	w := newBystander(t)
	snapshot := config.Objects(w.objects...)
	accepted := 0
	for i := range total {
		doc, err := yaml.Marshal(mutant(r, pick(r, seeds))["spec"])
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		cfg, errs := parse(string(doc))
		if len(errs) == 0 {
			accepted++
		}
		if len(errs) == 0 && i%(total/500) == 0 {
			m, _ := compile.Mesh(snapshot, &cfg, registries.Build(snapshot, &cfg), nil)
			w.resources(t, m)
		}
		if took := time.Since(start); took > hang {
			t.Fatalf("took %s: %s", took, doc)
		}
	}
	if accepted == 0 {
		t.Errorf("of %d mutants none was accepted: they test nothing", total)
	}
}

// seedDocuments are the documents of all kinds that stand in stories and samples.
func seedDocuments(t *testing.T) map[string][]map[string]any {
	seeds := map[string][]map[string]any{}
	add := func(file string, data []byte) {
		docs, _ := load.Bytes(file, data)
		for _, d := range docs {
			if k, ok := kind.ByGVK(d.Object.GroupVersionKind()); ok {
				seeds[k.Key()] = append(seeds[k.Key()], d.Object.Object)
			}
		}
	}
	for _, pattern := range []string{"testdata/*.txtar", "../config/validate/testdata/*.txtar", "../samples/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", pattern, err, len(files))
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Ext(name) == ".yaml" {
				add(name, data)
				continue
			}
			for _, f := range txtar.Parse(data).Files {
				if f.Name == "config.yaml" {
					add(f.Name, []byte(story.WithVersions(string(f.Data))))
				} else if strings.HasSuffix(f.Name, ".yaml") && f.Name != "meshconfig.yaml" && f.Name != "meshnetworks.yaml" {
					add(f.Name, f.Data)
				}
			}
		}
	}
	return seeds
}

// A world is the bystander's mesh, and what its proxy gets.
type world struct {
	objects []*config.Object
	want    map[string]string
	broken  broken
}

// broken is how a world goes wrong on purpose, see TestMutantsAreSeen.
type broken struct {
	lax     bool                                       // everything is accepted
	compile func(mutant *config.Object, m *model.Mesh) // has a mistake
}

var onlooker = &model.Proxy{Type: model.Sidecar, Namespace: "other", Name: "web-1", Labels: map[string]string{"app": "web"}, IPs: []netip.Addr{netip.MustParseAddr("10.244.0.50")}}

func newBystander(t testing.TB) *world {
	objects, err := story.Objects(bystander)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{objects: objects}
	w.want = w.resources(t, w.mesh(nil))
	return w
}

func (w *world) mesh(mutant *config.Object) *model.Mesh {
	cfg := model.DefaultMeshConfig()
	objects := w.objects
	if mutant != nil {
		objects = append(slices.Clone(objects), mutant)
	}
	snapshot := config.Objects(objects...)
	m, _ := compile.Mesh(snapshot, &cfg, registries.Build(snapshot, &cfg), nil)
	if w.broken.compile != nil && mutant != nil {
		w.broken.compile(mutant, m)
	}
	return m
}

func (w *world) resources(t testing.TB, m *model.Mesh) map[string]string {
	return resources(t, model.NewView(onlooker, m))
}

// feed takes a document as the mesh would: it is judged, and if it is accepted it joins the
// bystander's mesh.
func feed(t testing.TB, w *world, doc map[string]any, look bool) (accepted bool) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v\n%s", p, text(doc))
			panic(p)
		}
	}()
	u := &unstructured.Unstructured{Object: doc}
	if !w.broken.lax && len(validate.Object(u, nil).Errors) > 0 {
		return false
	}
	if k, _ := kind.ByGVK(u.GroupVersionKind()); crd.Of(k) != nil {
		crd.Of(k).Complete(u.Object)
	}
	o, err := config.FromUnstructured(u)
	if err != nil {
		t.Errorf("accepted, but cannot be read: %v\n%s", err, text(doc))
		return false
	}
	o.Created = time.Unix(1, 0) // older than all others, so that it wins where age counts
	if slices.Contains(istio.Kinds, o.Kind.Key()) {
		istio.Compile(o, istio.Env{ClusterDomain: "cluster.local", RootNamespace: "istio-system"})
	}
	if !look {
		return true
	}
	w.onGateways(t, o, doc)
	w.beside(t, doc)
	m := w.mesh(o)
	if got := w.resources(t, m); !maps.Equal(got, w.want) {
		for name, data := range w.want {
			if got[name] != data {
				t.Errorf("%s of a bystander was changed by\n%s", name, text(doc))
			}
		}
		for name := range got {
			if _, ok := w.want[name]; !ok {
				t.Errorf("a bystander got %s by\n%s", name, text(doc))
			}
		}
	}
	for _, p := range []*model.Proxy{
		{Type: model.Sidecar, Namespace: "mutant", Name: "m", Labels: o.Labels, IPs: onlooker.IPs},
		{Type: model.Router, Namespace: "istio-system", Name: "gw", Labels: map[string]string{"istio": "ingressgateway"}, IPs: onlooker.IPs},
	} {
		v := model.NewView(p, m)
		for _, url := range []string{translate.ClusterType, translate.EndpointType, translate.ListenerType, translate.RouteType} {
			for _, name := range translate.Names(v, url) {
				if r, ok := translate.Resource(v, url, name); ok {
					if _, err := proto.Marshal(r); err != nil {
						t.Errorf("%s does not go over the wire: %v\n%s", name, err, text(doc))
					}
					if errs := build.Check(r); len(errs) > 0 && o.Kind.Kind != "EnvoyFilter" { // which says what it likes
						t.Errorf("proxies refuse %s: %v\n%s", name, errs, text(doc))
					}
				}
			}
		}
	}
	return true
}

// aboutHosts are kinds whose objects say something of the hosts that they name, and of no others.
var aboutHosts = []string{"VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry", "HTTPRoute", "GRPCRoute"}

// beside has a document stand in the bystander's own namespace, too. It may say there what it likes of other hosts: what the bystander
// gets for its own stays as it is.
func (w *world) beside(t testing.TB, doc map[string]any) {
	doc = (&unstructured.Unstructured{Object: doc}).DeepCopy().Object
	u := &unstructured.Unstructured{Object: doc}
	if said := text(doc); !slices.Contains(aboutHosts, u.GetKind()) || strings.Contains(said, "web") || strings.ContainsAny(said, "*~") {
		return
	}
	u.SetNamespace("other")
	if len(validate.Object(u, nil).Errors) > 0 {
		return
	}
	o, err := config.FromUnstructured(u)
	if err != nil {
		t.Errorf("accepted, but cannot be read: %v\n%s", err, text(doc))
		return
	}
	o.Created = time.Unix(1, 0)
	before, after := w.ofWeb(t, w.mesh(nil)), w.ofWeb(t, w.mesh(o))
	for name, data := range before {
		if after[name] != data {
			t.Errorf("%s was changed by what does not speak of it:\n%s", name, text(doc))
		}
	}
}

// ofWeb is what the onlooker gets for the bystander's host.
func (w *world) ofWeb(t testing.TB, m *model.Mesh) map[string]string {
	const host = "web.other.svc.cluster.local"
	v, out := model.NewView(onlooker, m), map[string]string{}
	add := func(name string, r proto.Message) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			t.Errorf("%s does not go over the wire: %v", name, err)
		}
		out[name] = string(data)
	}
	for _, name := range translate.ClusterNames(v) {
		if strings.HasSuffix(name, "|"+host) || strings.HasPrefix(name, "inbound|8080|") {
			if c, ok := translate.Cluster(v, name); ok {
				add("cluster "+name, c)
			}
			if e, ok := translate.Endpoints(v, name); ok {
				add("endpoints of "+name, e)
			}
		}
	}
	if table, ok := translate.Routes(v, "8080"); ok {
		for _, h := range table.VirtualHosts {
			if h.Name == host+":8080" {
				add("virtual host "+h.Name, h)
			}
		}
	}
	if len(out) < 6 {
		t.Fatalf("only %d resources are about %s: %v", len(out), host, slices.Sorted(maps.Keys(out)))
	}
	return out
}

func text(doc map[string]any) string {
	data, err := json.Marshal(doc)
	if err != nil {
		return fmt.Sprint(doc)
	}
	return string(data)
}

// mutant returns a copy of a document, in a namespace of its own, in which one to three things are
// otherwise.
func mutant(r *rand.Rand, seed map[string]any) map[string]any {
	doc := (&unstructured.Unstructured{Object: seed}).DeepCopy().Object
	for range 1 + r.IntN(3) {
		change(r, doc)
	}
	return own(seed, doc)
}

// odd are values that are wrong in most places.
var odd = []any{
	nil, true, int64(-1), int64(0), int64(1), int64(65536), int64(1) << 40, 0.5, "", "*", ".", "~", "/", "a b", "%", "\x00", "é", "other", "web", "web.other.svc.cluster.local",
	"*.other.svc.cluster.local", "other/web", "-1s", "1e9h", "1s", "0s", "0.0.0.0", "::", "10.0.0.0/8", "10.0.0.0/99", "(a+)+$", "[", "istio-system", strings.Repeat("x", 300),
	[]any{}, []any{nil}, map[string]any{}, map[string]any{"": ""}, map[string]any{"prefix": ""},
}

// change changes one thing below a node: it walks down at random, and at some point takes
// something away, doubles it, or puts another value in its place.
func change(r *rand.Rand, node any) {
	switch n := node.(type) {
	case map[string]any:
		if len(n) == 0 {
			return
		}
		key := pick(r, slices.Sorted(maps.Keys(n)))
		switch r.IntN(8) {
		case 0:
			delete(n, key)
		case 1:
			n[key] = copied(pick(r, odd))
		case 2:
			other := pick(r, slices.Sorted(maps.Keys(n)))
			n[key], n[other] = n[other], n[key]
		default:
			if child := n[key]; isTree(child) {
				change(r, child)
			} else {
				n[key] = copied(pick(r, odd))
			}
		}
	case []any:
		if len(n) == 0 {
			return
		}
		i := r.IntN(len(n))
		if child := n[i]; isTree(child) && r.IntN(4) > 0 {
			change(r, child)
		} else {
			n[i] = copied(pick(r, append(odd, n[r.IntN(len(n))])))
		}
	}
}

func isTree(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

func copied(v any) any {
	return (&unstructured.Unstructured{Object: map[string]any{"v": v}}).DeepCopy().Object["v"]
}
