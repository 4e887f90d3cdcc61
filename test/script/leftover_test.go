//go:build linux

package script_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// gone fails the test unless nothing of a mesh is left but its state directory:
// no process, and with that no namespace that only they held, no mount, no
// interface.
func gone(t *testing.T, m *mesh.Mesh, tree []mesh.Process) {
	t.Helper()
	if len(tree) < 3 {
		t.Fatalf("no mesh to speak of: %v", tree)
	}
	mesh.Until(t, 10*time.Second, "every process gone", func() error {
		for _, p := range tree {
			if p.Alive() {
				return fmt.Errorf("%v is alive", p)
			}
		}
		return nil
	})
	for _, p := range mesh.Processes() {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		for _, e := range strings.Split(string(env), "\x00") {
			if e == "MALLA_HOME="+m.Home && p.PID != os.Getpid() && !p.Is("-c") && p.Args[0] != "/bin/sh" {
				t.Errorf("%v is still there", p)
			}
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, l := range strings.Split(string(mounts), "\n") {
		if strings.Contains(l, m.Home) || strings.Contains(l, "nsfs") && strings.Contains(l, "malla") {
			t.Errorf("mount left: %s", l)
		}
	}
}

// ownNamespaces are those that the machine's other processes do not live in.
func ownNamespaces(tree []mesh.Process) map[string]bool {
	own := mesh.Namespaces(tree)
	for ns := range mesh.Namespaces([]mesh.Process{{PID: os.Getpid()}}) {
		delete(own, ns)
	}
	return own
}

// inhabitants are all processes that live in one of the namespaces or hold one
// open, whoever started them. (Asked before the end: afterwards the kernel gives
// the numbers of namespaces that have gone to the next ones.)
func inhabitants(namespaces map[string]bool) []mesh.Process {
	var found []mesh.Process
	for _, p := range mesh.Processes() {
		in := false
		for ns := range mesh.Namespaces([]mesh.Process{p}) {
			in = in || namespaces[ns]
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID))
		for _, fd := range fds {
			link, _ := os.Readlink(fd)
			in = in || namespaces[link]
		}
		if in {
			found = append(found, p)
		}
	}
	return found
}

// machine is what a mesh must not change.
type machine struct {
	interfaces, files []string
}

func look(t *testing.T, home string) machine {
	t.Helper()
	var m machine
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		m.interfaces = append(m.interfaces, i.Name)
	}
	for _, dir := range []string{"/run", "/var/run", "/var/tmp", "/var/lib", "/dev/shm", "/etc", "/var/log", home} {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			m.files = append(m.files, filepath.Join(dir, e.Name()))
		}
	}
	return m
}

// TestNothingIsLeft ends a mesh in every way there is, and looks around.
func TestNothingIsLeft(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"web.yaml": deployment("web", httpbinImage) + service("web", 80, 80) + gateway80 +
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n"})
	kinds := []struct {
		name  string
		words []string // of the process that is killed; nil: `malla stop`
		whole bool     // the mesh ends; else what was killed comes back
	}{
		{"malla stop", nil, true},
		{"SIGKILL of the parent", []string{"up"}, true},
		{"SIGKILL of the supervisor", []string{"local", "supervise"}, true},
		{"SIGKILL of a pod's process 1", []string{"local", "pod-init"}, false},
		{"SIGKILL of a sidecar", []string{"proxy", "run"}, false},
		{"SIGKILL of an application", []string{"sample"}, false},
		{"SIGKILL of the control plane", []string{"control", "run"}, false},
	}
	for _, test := range kinds {
		t.Run(test.name, func(t *testing.T) {
			private := t.TempDir() // HOME and TMPDIR: whatever is left there is a leftover
			env := []string{"HOME=" + filepath.Join(private, "home"), "TMPDIR=" + filepath.Join(private, "tmp"), "XDG_RUNTIME_DIR=" + filepath.Join(private, "run"),
				"XDG_CACHE_HOME=" + filepath.Join(private, "cache"), "XDG_CONFIG_HOME=" + filepath.Join(private, "config")}
			for _, d := range []string{"home", "tmp", "run", "cache", "config"} {
				if err := os.Mkdir(filepath.Join(private, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			before := look(t, private)
			m := mesh.Up(t, mesh.Options{Name: "left", Paths: []string{dir}, Env: env})
			tree := m.Tree()
			own := ownNamespaces(tree)
			if len(own) < 10 {
				t.Errorf("only %d namespaces of its own: %v", len(own), own)
			}
			tree = append(tree, inhabitants(own)...)
			during := look(t, private)
			if !slices.Equal(during.interfaces, before.interfaces) {
				t.Errorf("interfaces of the machine %v, before %v", during.interfaces, before.interfaces)
			}
			switch {
			case test.words == nil:
				if r := m.Stop(); r.Code != 0 {
					t.Fatalf("stop: %s", r)
				}
			default:
				killOne(t, m, tree, test.words)
			}
			if !test.whole {
				c := mesh.Client(2 * time.Second)
				mesh.Until(t, 40*time.Second, "the mesh answering again", func() error {
					for _, selector := range []string{"app=web"} {
						r := m.Run("get", "pods", "-l", selector)
						if !strings.Contains(r.Out, "2/2") {
							return fmt.Errorf("%s", r)
						}
					}
					a, err := mesh.Get(c, m.URL("/get"))
					if err == nil {
						err = mesh.OK(a)
					}
					return err
				})
				tree = append(tree, m.Tree()...)
				tree = append(tree, inhabitants(ownNamespaces(m.Tree()))...)
				if r := m.Stop(); r.Code != 0 {
					t.Fatalf("stop: %s", r)
				}
			}
			gone(t, m, tree)
			after := look(t, private)
			if !slices.Equal(after.interfaces, before.interfaces) {
				t.Errorf("interfaces %v, before %v", after.interfaces, before.interfaces)
			}
			for _, f := range after.files {
				if !slices.Contains(before.files, f) && strings.Contains(f, "malla") {
					t.Errorf("left: %s", f)
				}
			}
			for _, d := range []string{"home", "tmp", "run", "cache", "config"} {
				_ = filepath.WalkDir(filepath.Join(private, d), func(path string, e os.DirEntry, err error) error {
					if err == nil && !e.IsDir() {
						t.Errorf("left: %s", path)
					}
					return nil
				})
			}
			if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", m.Port(80))); err != nil {
				t.Errorf("the gateway's port is still in use: %v", err)
			} else {
				l.Close()
			}
			// The state directory holds state, and nothing of pods.
			if left, _ := filepath.Glob(filepath.Join(m.Dir(), "pods", "*")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// killOne kills the youngest process of the tree whose command line begins so.
func killOne(t *testing.T, m *mesh.Mesh, tree []mesh.Process, words []string) {
	t.Helper()
	if words[0] == "up" {
		if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, p := range slices.Backward(tree) {
		if p.Is(words...) {
			if err := mesh.Kill(p); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no process %v in %v", words, tree)
}
