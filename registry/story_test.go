package registry

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/model"
)

var update = flag.Bool("update", false, "write what was found into the stories")

// TestStories: a sentence, the objects of a cluster, and what exists in the mesh.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
			var all []*config.Object
			for i, f := range a.Files {
				if i == want {
					continue
				}
				objects, err := memory.Parse(string(f.Data))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, objects...)
			}
			mesh := model.DefaultMeshConfig()
			got := text(Build(config.Objects(all...), &mesh))
			if *update {
				if want < 0 {
					a.Files, want = append(a.Files, txtar.File{Name: "want"}), len(a.Files)
				}
				a.Files[want].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatal("no section want; run go test -update and read it")
			}
			if diff := cmp.Diff(string(a.Files[want].Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// text writes a state for people.
func text(s *State) string {
	var b strings.Builder
	resolution := []string{"endpoints", "passthrough", "DNS", "DNS round robin", "alias of", "dynamic DNS"}
	for _, svc := range s.Services {
		fmt.Fprintf(&b, "%s in %s, %s%s", svc.Host, svc.Namespace, resolution[svc.Resolution], map[bool]string{true: " " + svc.AliasOf}[svc.AliasOf != ""])
		for _, v := range svc.VIPs {
			fmt.Fprintf(&b, " %s", v)
		}
		for _, v := range svc.Auto {
			fmt.Fprintf(&b, " (%s)", v)
		}
		for _, v := range svc.CIDRs {
			fmt.Fprintf(&b, " %s", v)
		}
		for _, has := range []struct {
			name string
			is   bool
		}{{" headless", svc.Headless}, {" external", svc.External}, {" node-local", svc.NodeLocal}, {" zone first", svc.Near == model.NearZone}, {" node first", svc.Near == model.NearNode}} {
			if has.is {
				b.WriteString(has.name)
			}
		}
		if len(svc.ExportTo) > 0 {
			fmt.Fprintf(&b, " to %v", svc.ExportTo)
		}
		b.WriteString("\n")
		for _, p := range svc.Ports {
			fmt.Fprintf(&b, "  port %d %q %s", p.Number, p.Name, p.Protocol)
			if p.Target.Name != "" {
				fmt.Fprintf(&b, " -> %s", p.Target.Name)
			} else if p.Target.Number != 0 {
				fmt.Fprintf(&b, " -> %d", p.Target.Number)
			}
			b.WriteString("\n")
		}
		for _, a := range slices.Concat(svc.Accounts, svc.SANs) {
			fmt.Fprintf(&b, "  account %s\n", a)
		}
		if set := s.Endpoints[svc.Key()]; set != nil {
			for _, e := range set.Endpoints {
				b.WriteString("  " + endpoint(e) + "\n")
			}
		}
	}
	for _, w := range s.Workloads {
		fmt.Fprintf(&b, "workload %s/%s %v of %s %s as %s ready=%v injected=%v\n", w.Namespace, w.Name, w.Addrs, w.OwnerKind, w.Owner, w.ServiceAccount, w.Ready, w.Injected)
	}
	return b.String()
}

func endpoint(e *model.Endpoint) string {
	s := fmt.Sprintf("endpoint %q %s%s", e.PortName, e.Hostname, e.Path)
	for _, a := range e.Addrs {
		s += a.String() + " "
	}
	s = fmt.Sprintf("%s:%d", strings.TrimSpace(s), e.Port)
	if e.Pod != "" {
		s += fmt.Sprintf(" pod %s of %s (%s %s)", e.Pod, e.Workload, e.Canonical, e.Revision)
	}
	if e.Health != model.Healthy {
		s += " not ready"
	}
	if e.TLS {
		s += " mTLS"
	}
	if e.Weight != 0 {
		s += fmt.Sprintf(" weight %d", e.Weight)
	}
	return s
}
