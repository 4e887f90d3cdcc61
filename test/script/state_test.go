//go:build linux

package script_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mallamesh/malla/test/script/mesh"
)

// The mesh's state outlives a disk that is full and a death in the middle of a
// write: what was answered is there afterwards.
func TestStateSurvives(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"web.yaml": deployment("web", httpbinImage)})
	m := mesh.Up(t, mesh.Options{Name: "state", Paths: []string{dir}})
	number := func(n int) mesh.Result {
		return m.RunIn(10*time.Second, fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: number-%d}\ndata: {pad: %q}\n", n, strings.Repeat("x", 2000)), "apply", "-f", "-")
	}
	last := 0 // what was answered

	t.Run("a full disk: changes are in force, and whoever makes one is told", func(t *testing.T) {
		state, err := os.Stat(filepath.Join(m.Dir(), "state.json"))
		if err != nil {
			t.Fatal(err)
		}
		limitFiles(t, m, uint64(state.Size())) // a file that must not grow is a full disk, for this process
		last++
		if r := number(last); r.Code != 0 || !strings.Contains(r.Err, "not saved") {
			t.Errorf("apply: %s, want it to work, with a warning", r)
		}
		m.In(t).Must("scale", "deployment", "web", "--replicas=2")
		m.In(t).Rollout("web")
		limitFiles(t, m, unix.RLIM_INFINITY)
		mesh.Until(t, 5*time.Second, "saved again", func() error {
			last++
			if r := number(last); r.Code != 0 || r.Err != "" {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	})
	t.Run("SIGKILL in the middle of writes", func(t *testing.T) {
		m := m.In(t)
		tree := m.Tree()
		dead := make(chan error, 1)
		for first, n := last+1, last+1; ; n++ {
			if n == first+8 {
				go func() { dead <- mesh.Kill(tree[0]) }()
			}
			if r := number(n); r.Code != 0 {
				break
			}
			if last = n; n > first+200 {
				t.Fatal("still alive")
			}
		}
		if err := <-dead; err != nil {
			t.Fatal(err)
		}
		gone(t, m, tree)
		m.Start(mesh.Options{Paths: []string{dir}})
		if m.Up.Code != 0 {
			t.Fatalf("up again: %s", m.Up)
		}
		names := strings.Fields(m.Must("get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"))
		have := map[string]bool{}
		for _, n := range names {
			have[n] = true
		}
		for n := 1; n <= last; n++ {
			if !have[fmt.Sprintf("number-%d", n)] {
				t.Errorf("number-%d of %d was answered and is lost", n, last)
			}
		}
	})
}

// limitFiles bounds how large files the mesh's processes may make.
func limitFiles(t *testing.T, m *mesh.Mesh, bytes uint64) {
	t.Helper()
	for _, p := range m.Tree() {
		var old unix.Rlimit
		if err := unix.Prlimit(p.PID, unix.RLIMIT_FSIZE, nil, &old); err != nil {
			t.Fatalf("%v: %v", p, err)
		}
		if err := unix.Prlimit(p.PID, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: old.Max}, nil); err != nil {
			t.Fatalf("%v: %v", p, err)
		}
	}
}
