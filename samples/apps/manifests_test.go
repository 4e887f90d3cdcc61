package apps

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	sigsyaml "sigs.k8s.io/yaml"
)

// A document is one YAML document of the samples.
type document struct {
	file string
	kind string
	name string
	json []byte
}

// documents reads all manifests below samples/ but the kustomizations.
func documents(t *testing.T) []document {
	t.Helper()
	var list []document
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" || d.Name() == "kustomization.yaml" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		docs, err := split(path, f)
		list = append(list, docs...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 60 {
		t.Fatalf("%d documents found, want all of the samples'", len(list))
	}
	return list
}

func split(path string, r io.Reader) ([]document, error) {
	var list []document
	d := yaml.NewYAMLReader(bufio.NewReader(r))
	for {
		text, err := d.Read()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		data, err := sigsyaml.YAMLToJSONStrict(text) // a key written twice is an error
		if err != nil {
			return nil, err
		}
		var head struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := json.Unmarshal(data, &head); err != nil {
			return nil, err
		}
		list = append(list, document{path, head.Kind, head.Metadata.Name, data})
	}
}

// Every manifest says only what its type knows: a misspelt field in a sample
// would be refused by malla and ignored by others.
func TestManifestsAreStrict(t *testing.T) {
	core := map[string]func() any{
		"apps/v1 Deployment": func() any { return new(appsv1.Deployment) },
		"v1 Service":         func() any { return new(corev1.Service) },
		"v1 ServiceAccount":  func() any { return new(corev1.ServiceAccount) },
		"v1 Namespace":       func() any { return new(corev1.Namespace) },
		"v1 ConfigMap":       func() any { return new(corev1.ConfigMap) },

		"gateway.networking.k8s.io/v1 Gateway":   func() any { return new(gatewayv1.Gateway) },
		"gateway.networking.k8s.io/v1 HTTPRoute": func() any { return new(gatewayv1.HTTPRoute) },
	}
	istio := map[string]func() proto.Message{
		"VirtualService":  func() proto.Message { return new(networking.VirtualService) },
		"DestinationRule": func() proto.Message { return new(networking.DestinationRule) },
		"Gateway":         func() proto.Message { return new(networking.Gateway) },
		"ServiceEntry":    func() proto.Message { return new(networking.ServiceEntry) },
	}
	for _, d := range documents(t) {
		var head struct {
			APIVersion string          `json:"apiVersion"`
			Kind       string          `json:"kind"`
			Metadata   json.RawMessage `json:"metadata"`
			Spec       json.RawMessage `json:"spec"`
		}
		if err := json.Unmarshal(d.json, &head); err != nil {
			t.Fatal(err)
		}
		if make, ok := istio[d.kind]; ok && strings.HasPrefix(head.APIVersion, "networking.istio.io/") {
			err := strict(d.json, &head)
			if err == nil {
				err = protojson.Unmarshal(head.Spec, make())
			}
			if err != nil {
				t.Errorf("%s: %s %s: %v", d.file, d.kind, d.name, err)
			}
			continue
		}
		make, ok := core[head.APIVersion+" "+d.kind]
		if !ok {
			t.Errorf("%s: %s %s %s: no such kind in the samples' list", d.file, head.APIVersion, d.kind, d.name)
			continue
		}
		if err := strict(d.json, make()); err != nil {
			t.Errorf("%s: %s %s: %v", d.file, d.kind, d.name, err)
		}
	}
}

func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// Every image of the samples has its program, every Deployment's selector finds
// its own pods, and every Service finds a Deployment in the same directory.
func TestDeployments(t *testing.T) {
	type pods struct{ labels map[string]string }
	byDir := map[string][]pods{}
	top := func(file string) string { return strings.Split(filepath.ToSlash(file), "/")[1] }
	docs := documents(t)
	for _, d := range docs {
		if d.kind != "Deployment" {
			continue
		}
		var dep appsv1.Deployment
		if err := strict(d.json, &dep); err != nil {
			t.Fatal(err)
		}
		labels := dep.Spec.Template.Labels
		byDir[top(d.file)] = append(byDir[top(d.file)], pods{labels})
		if !subset(dep.Spec.Selector.MatchLabels, labels) {
			t.Errorf("%s: Deployment %s: selector %v does not find its pods %v", d.file, d.name, dep.Spec.Selector.MatchLabels, labels)
		}
		for _, c := range dep.Spec.Template.Spec.Containers {
			if _, ok := ForImage(c.Image); !ok {
				t.Errorf("%s: Deployment %s: image %s has no program", d.file, d.name, c.Image)
			}
		}
	}
	for _, d := range docs {
		if d.kind != "Service" {
			continue
		}
		var svc corev1.Service
		if err := strict(d.json, &svc); err != nil {
			t.Fatal(err)
		}
		found := false
		for _, p := range byDir[top(d.file)] {
			found = found || subset(svc.Spec.Selector, p.labels)
		}
		if !found {
			t.Errorf("%s: Service %s: no Deployment of the sample has %v", d.file, d.name, svc.Spec.Selector)
		}
	}
}

func subset(want, have map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return len(want) > 0
}

// Routes name hosts and subsets that exist in the samples.
func TestRoutesLeadSomewhere(t *testing.T) {
	docs := documents(t)
	subsets := map[string]bool{} // host/subset
	hosts := map[string]bool{}
	for _, d := range docs {
		var head struct{ Spec json.RawMessage }
		if err := json.Unmarshal(d.json, &head); err != nil {
			t.Fatal(err)
		}
		switch d.kind {
		case "Service":
			hosts[d.name] = true
		case "ServiceEntry":
			var e networking.ServiceEntry
			if err := protojson.Unmarshal(head.Spec, &e); err != nil {
				t.Fatal(err)
			}
			for _, h := range e.Hosts {
				hosts[h] = true
			}
		case "DestinationRule":
			var r networking.DestinationRule
			if err := protojson.Unmarshal(head.Spec, &r); err != nil {
				t.Fatal(err)
			}
			for _, s := range r.Subsets {
				subsets[r.Host+"/"+s.Name] = true
			}
		}
	}
	for _, d := range docs {
		if d.kind != "VirtualService" {
			continue
		}
		var head struct{ Spec json.RawMessage }
		var vs networking.VirtualService
		if err := json.Unmarshal(d.json, &head); err != nil {
			t.Fatal(err)
		}
		if err := protojson.Unmarshal(head.Spec, &vs); err != nil {
			t.Fatal(err)
		}
		for _, dest := range destinations(&vs) {
			if !hosts[dest.Host] || dest.Subset != "" && !subsets[dest.Host+"/"+dest.Subset] {
				t.Errorf("%s: VirtualService %s: destination %s subset %q is in no sample", d.file, d.name, dest.Host, dest.Subset)
			}
		}
	}
}

func destinations(vs *networking.VirtualService) []*networking.Destination {
	var list []*networking.Destination
	for _, h := range vs.Http {
		for _, r := range h.Route {
			list = append(list, r.Destination)
		}
		if h.Mirror != nil {
			list = append(list, h.Mirror)
		}
	}
	for _, tcp := range vs.Tcp {
		for _, r := range tcp.Route {
			list = append(list, r.Destination)
		}
	}
	return list
}

// The directories that "malla up" is given build, and bookinfo has all parts.
func TestKustomizations(t *testing.T) {
	for dir, want := range map[string][]string{
		"../bookinfo": {"kind: Namespace", "name: reviews-v3", "name: ratings-v2", "name: ratingsdb-v1", "name: bookinfo-gateway", "name: bookinfo-productpage"},
		"../soap":     {"name: provider-v1", "name: consumer-v1"},
		"../tcp-echo": {"name: tcp-echo-v2"},
	} {
		out, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		text, err := out.AsYaml()
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !bytes.Contains(text, []byte(w)) {
				t.Errorf("%s builds without %q", dir, w)
			}
		}
		if dir == "../soap" && bytes.Contains(text, []byte("provider-v2")) {
			t.Error("../soap deploys provider-v2, which is a later step of its walk")
		}
	}
}
