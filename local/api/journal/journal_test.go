package journal

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/local/api/store"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func cm(name, value string) (store.Key, *unstructured.Unstructured) {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": map[string]any{"k": value}}}
	u.SetName(name)
	u.SetNamespace("default")
	return store.Key{Resource: "configmaps", Namespace: "default", Name: name}, u
}

func open(t testing.TB, path string) (*store.Store, *Journal) {
	t.Helper()
	j, version, objects, err := Open(path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s := store.New(max(version, 1), objects, j)
	j.Snapshot(s)
	return s, j
}

func put(t testing.TB, s *store.Store, name, value string) {
	t.Helper()
	k, u := cm(name, value)
	var at uint64
	if o := s.Get(k); o != nil {
		at = o.Version
	}
	if _, err := s.Put(k, at, u, []string{"notice of " + name}); err != nil {
		t.Fatal(err)
	}
}

// state is what a store holds, in one line per object.
func state(s *store.Store) string {
	text := fmt.Sprintf("version %d\n", s.Version())
	objects, _ := s.List("configmaps", "")
	for _, o := range objects {
		v, _, _ := unstructured.NestedString(o.Value.Object, "data", "k")
		text += fmt.Sprintf("%s %d %s %v\n", o.Key, o.Version, v, o.Notices)
	}
	return text
}

func TestStateOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s, j := open(t, path)
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	put(t, s, "a", "2")
	kb, _ := cm("b", "")
	if _, err := s.Delete(kb, s.Get(kb).Version, nil); err != nil {
		t.Fatal(err)
	}
	want := state(s)
	// The process dies: no Close. What clients have heard of is in the file.
	again, j2 := open(t, path)
	if got := state(again); got != want {
		t.Errorf("after a crash:\n%swant\n%s", got, want)
	}
	j.Close()
	j2.Close()
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; the file holds secrets", i.Mode(), err)
	}
}

// Whatever byte the file ends at, the state is that of some moment before, and
// the server starts.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	s, j := open(t, path)
	states := map[string]bool{"version 1\n": true}
	for i := range 4 {
		put(t, s, fmt.Sprint("n", i%2), fmt.Sprint(i))
		states[state(s)] = true
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(raw); n += 1 + n%5 {
		torn := filepath.Join(dir, fmt.Sprint("torn", n))
		if err := os.WriteFile(torn, raw[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		s, j := open(t, torn)
		if got := state(s); !states[got] {
			t.Fatalf("cut at byte %d of %d:\n%s", n, len(raw), got)
		}
		put(t, s, "after", "1") // and it goes on
		j.Close()
	}
}

func TestDamageInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s, j := open(t, path)
	put(t, s, "a", "1")
	before := state(s)
	put(t, s, "b", "1")
	put(t, s, "c", "1")
	j.Close()
	raw, _ := os.ReadFile(path)
	lines := 0
	for i, b := range raw {
		if b == '\n' {
			lines++
		}
		if lines == 2 { // the record of b, after the head and a
			raw[i+30] ^= 1
			break
		}
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	again, j := open(t, path)
	defer j.Close()
	if got := state(again); got != before {
		t.Errorf("got\n%swant what came before the damage\n%s", got, before)
	}
	if kept, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.HasSuffix(raw, kept) || bytes.Count(kept, []byte("\n")) != 2 {
		t.Errorf("kept of the damaged file: %q, %v; want all from the damage on", kept, err)
	}
}

func TestRewriteKeepsWhatChangesMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s, j := open(t, path)
	for i := range 50 {
		put(t, s, "a", fmt.Sprint(i))
	}
	before := j.size
	j.compact(func() (uint64, []*store.Object) {
		v, objects := s.Snapshot()
		put(t, s, "b", "meanwhile")
		return v, objects
	})
	put(t, s, "c", "after")
	if j.size >= before {
		t.Errorf("%d bytes became %d", before, j.size)
	}
	want := state(s)
	j.Close()
	again, j := open(t, path)
	defer j.Close()
	if got := state(again); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A disk that takes nothing stops nobody; when it takes again, the file is whole.
func TestFailedWriteHeals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s, j := open(t, path)
	put(t, s, "a", "1")
	j.mu.Lock()
	j.file.Close() // every write fails from here on
	j.mu.Unlock()
	put(t, s, "b", "1")
	j.turn()
	put(t, s, "c", "1")
	want := state(s)
	j.Close()
	again, j := open(t, path)
	defer j.Close()
	if got := state(again); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestEventsAreNotKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s, j := open(t, path)
	_, u := cm("e", "1")
	if _, err := s.Put(store.Key{Resource: "events", Namespace: "default", Name: "e"}, 0, u, nil); err != nil {
		t.Fatal(err)
	}
	j.Close()
	again, j := open(t, path)
	defer j.Close()
	if l, _ := again.List("events", ""); len(l) != 0 {
		t.Error("an event came back")
	}
}

func FuzzRead(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	s, j := open(f, path)
	put(f, s, "a", "1")
	j.Close()
	raw, _ := os.ReadFile(path)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, in []byte) {
		path := filepath.Join(t.TempDir(), "state.json")
		if err := os.WriteFile(path, in, 0o600); err != nil {
			t.Fatal(err)
		}
		read(path, quiet) // must not panic
	})
}
