package test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

// layers are the top-level directories from the top down. Imports point down
// only; directories on one line do not import each other.
var layers = [][]string{
	{"cmd"},
	{"app"},
	{"cli", "dash", "local", "samples"},
	{"control", "node", "proxy", "observe"},
	{"translate"},
	{"compile"},
	{"registry"},
	{"config"},
	{"model", "pki", "api"},
	{"base"},
}

const module = "github.com/mallamesh/malla"

type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// packages lists the packages of the module as the tool chain sees them.
func packages(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Name,Doc,Dir,GoFiles,Imports,Deps"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// place returns the layer of an import path of the module, 0 on top, and its
// top-level directory.
func place(path string) (layer int, dir string, ok bool) {
	dir, found := strings.CutPrefix(path, module+"/")
	if !found {
		return 0, "", false
	}
	dir, _, _ = strings.Cut(dir, "/")
	for i, dirs := range layers {
		for _, d := range dirs {
			if d == dir {
				return i, dir, true
			}
		}
	}
	return 0, dir, false
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t, "./...") {
		from, dir, ok := place(p.ImportPath)
		if !ok {
			if dir != "test" && dir != "" {
				t.Errorf("%s: directory %s is in no layer", p.ImportPath, dir)
			}
			continue
		}
		for _, imported := range p.Imports {
			to, other, ok := place(imported)
			if !ok || other == dir {
				continue
			}
			if to <= from {
				t.Errorf("%s imports %s: want imports to point down only", p.ImportPath, imported)
			}
		}
	}
}

func TestBaseNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, p := range packages(t, "./base/...") {
		for _, imported := range p.Imports {
			if strings.Contains(imported, ".") && !strings.HasPrefix(imported, module+"/base/") {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
}

// The proxy is linked into a lean binary, and meets the control plane on the
// wire only.
func TestProxyIsLean(t *testing.T) {
	for _, p := range packages(t, "-deps", "./proxy/...") {
		for _, heavy := range []string{"k8s.io/client-go", "k8s.io/api/", "k8s.io/kubectl", "istio.io/client-go", module + "/control", module + "/translate", module + "/compile", module + "/config"} {
			if strings.HasPrefix(p.ImportPath, heavy) {
				t.Errorf("proxy links %s", p.ImportPath)
			}
		}
	}
}

// Protobuf ends at the doors: the packages of the hot path never see its messages. Its wire
// format, tags and lengths, is bytes like any other protocol's.
func TestHotPathKnowsNoProtobuf(t *testing.T) {
	doors := []string{"/proxy/build", "/proxy/xdsclient", "/proxy/admin", "/proxy/tap/sink", "/proxy/cel/typed"}
	for _, p := range packages(t, "./proxy/...") {
		door := false
		for _, d := range doors {
			door = door || strings.HasPrefix(p.ImportPath, module+d)
		}
		for _, imported := range p.Imports {
			if !door && imported != "google.golang.org/protobuf/encoding/protowire" && (strings.HasPrefix(imported, "google.golang.org/protobuf") || strings.Contains(imported, "go-control-plane")) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
}
