package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func object(name string) (Key, *unstructured.Unstructured) {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}}
	u.SetName(name)
	u.SetNamespace("ns")
	return Key{"configmaps", "ns", name}, u
}

func write(t *testing.T, s *Store, name string) *Object {
	t.Helper()
	k, u := object(name)
	o, err := s.Put(k, at(s.Get(k)), u, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func texts(events []Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s%s@%d", []string{"+", "~", "-"}[e.Type], e.Object.Key.Name, e.Version))
	}
	return strings.Join(out, " ")
}

func TestWatchResumes(t *testing.T) {
	s := New(10, nil, nil)
	first := write(t, s, "a")
	write(t, s, "a")
	k, _ := object("a")
	if _, err := s.Delete(k, s.Get(k).Version, nil); err != nil {
		t.Fatal(err)
	}
	w, err := s.Watch("configmaps", "", first.Version)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, "b")
	events, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := texts(events), "~a@12 -a@13 +b@14"; got != want {
		t.Errorf("saw %s, want %s", got, want)
	}
	// A list of nothing can be followed too: the table's memory begins with the store.
	if w, err := s.Watch("secrets", "", 10); err != nil || w == nil {
		t.Errorf("watch from the start: %v", err)
	}
	if _, err := s.Watch("configmaps", "", 9); !errors.Is(err, ErrExpired) {
		t.Errorf("watch from before the start: %v, want ErrExpired", err)
	}
}

func TestOldVersionsExpire(t *testing.T) {
	s := New(1, nil, nil)
	for range Remembered + 10 {
		write(t, s, "a")
	}
	if _, err := s.Watch("configmaps", "", 5); !errors.Is(err, ErrExpired) {
		t.Errorf("after %d changes: %v, want ErrExpired", Remembered+10, err)
	}
	w, err := s.Watch("configmaps", "", s.Version()-Remembered)
	if err != nil {
		t.Fatal(err)
	}
	events, _ := w.Take()
	if len(events) != Remembered || events[0].Version != s.Version()-Remembered+1 {
		t.Errorf("%d events, first %d", len(events), events[0].Version)
	}
	for i, e := range events[1:] {
		if e.Version != events[i].Version+1 {
			t.Fatalf("%d follows %d", e.Version, events[i].Version)
		}
	}
}

func TestWatcherThatDoesNotReadIsDropped(t *testing.T) {
	s := New(1, nil, nil)
	_, _, w := s.ListAndWatch("configmaps", "")
	for range Behind + 1 {
		write(t, s, "a")
	}
	if _, err := w.Take(); !errors.Is(err, ErrExpired) {
		t.Errorf("after %d unread changes: %v, want ErrExpired", Behind+1, err)
	}
	if n := len(s.tables["configmaps"].watchers); n != 0 {
		t.Errorf("%d watchers are left", n)
	}
}

// Large objects are remembered, and kept for a watcher that does not read, up to a number of bytes.
func TestLargeObjectsAreNotKeptByNumber(t *testing.T) {
	s := New(1, nil, nil)
	_, _, w := s.ListAndWatch("configmaps", "")
	k, u := object("a")
	u.Object["data"] = map[string]any{"k": strings.Repeat("x", 1<<20)}
	for range BehindBytes>>20 + 1 {
		if _, err := s.Put(k, at(s.Get(k)), u.DeepCopy(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Take(); !errors.Is(err, ErrExpired) {
		t.Errorf("a watcher that reads nothing: %v, want ErrExpired", err)
	}
	if n := len(s.tables["configmaps"].recent); n > RememberedBytes>>20 || n == 0 {
		t.Errorf("%d changes of 1 MB each are remembered, want at most %d", n, RememberedBytes>>20)
	}
	if _, err := s.Watch("configmaps", "", s.Version()-1); err != nil {
		t.Errorf("the latest change is not remembered: %v", err)
	}
}

func TestPutExpectsAVersion(t *testing.T) {
	s := New(1, nil, nil)
	o := write(t, s, "a")
	write(t, s, "a")
	k, u := object("a")
	for _, expect := range []uint64{0, o.Version} {
		if _, err := s.Put(k, expect, u, nil); !errors.Is(err, ErrConflict) {
			t.Errorf("put at %d: %v, want ErrConflict", expect, err)
		}
	}
	if _, err := s.Delete(k, o.Version, nil); !errors.Is(err, ErrConflict) {
		t.Errorf("delete at %d: %v, want ErrConflict", o.Version, err)
	}
}

// Every watcher sees every change once, in order, whoever writes.
func TestWatchersUnderLoad(t *testing.T) {
	const writers, each = 4, 300
	s := New(1, nil, nil)
	var watchers []*Watcher
	for range 3 {
		_, _, w := s.ListAndWatch("configmaps", "")
		watchers = append(watchers, w)
	}
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range each {
				k, u := object(fmt.Sprint("n", i))
				if _, err := s.Put(k, at(s.Get(k)), u, nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, w := range watchers {
		wg.Go(func() {
			last := uint64(1)
			for n := 0; n < writers*each; {
				events, err := w.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range events {
					if e.Version != last+1 {
						t.Errorf("%d follows %d", e.Version, last)
					}
					last = e.Version
					n++
				}
			}
		})
	}
	wg.Wait()
}
