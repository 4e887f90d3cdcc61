package access

import "testing"

// What is shared is known to connections to hosts, in its last version, and ONCE goes no further.
func TestShared(t *testing.T) {
	var s State
	s.Share("once", []byte("old"), Once, true)
	s.Set("own", []byte("x"), false)
	s.Share("once", []byte("new"), Once, true)
	s.Share("ever", []byte("e"), Transitive, false)
	of := s.Shared()
	for key, want := range map[string]string{"once": "new", "own": "", "ever": "e"} {
		if got, _ := of.Get(key); string(got) != want {
			t.Errorf("a connection knows %q of %s, want %q", got, key, want)
		}
	}
	if further := of.Shared(); further == nil || !further.has("ever") || further.has("once") {
		t.Errorf("the connection behind it knows %+v, want ever and not once", further)
	}
	var other State
	other.Share("once", []byte("new"), Once, true)
	other.Share("ever", []byte("another"), Transitive, false)
	if s.SharedKey() != other.SharedKey() || s.SharedKey() == "" {
		t.Errorf("keys %q and %q, want the same: what differs is not hashed", s.SharedKey(), other.SharedKey())
	}
}

func (s *State) has(key string) bool {
	_, ok := s.Get(key)
	return ok
}

// A state that gets others' entries keeps its own.
func TestInherit(t *testing.T) {
	var of, s State
	of.Set("a", []byte("connection"), false)
	of.Set("b", []byte("b"), false)
	s.Set("c", []byte("own"), false)
	s.Inherit(&of)
	for key, want := range map[string]string{"a": "connection", "b": "b", "c": "own"} {
		if got, _ := s.Get(key); string(got) != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if s.Set("a", []byte("request"), false) {
		t.Error("a request says otherwise than its connection")
	}
}

func TestStateAllocs(t *testing.T) {
	var s State
	value := []byte("value")
	if n := testing.AllocsPerRun(100, func() {
		s.Reset()
		s.Set("a", value, false)
		s.Set("b", value, false)
		s.SharedKey()
		s.Shared()
	}); n != 0 {
		t.Errorf("a state allocates %v times, want 0", n)
	}
}

// Looking up a field of an object allocates nothing.
func TestFieldAllocs(t *testing.T) {
	var s State
	const key, name = "a.key.as.long.as.they.are.usually", "field"
	s.Set(key+asField+"other", []byte("no"), false)
	s.Set(key+asField+name, []byte("old"), false)
	s.Set(key+asField+name, []byte("new"), false)
	if n := testing.AllocsPerRun(100, func() {
		if v, ok := s.Field(key, name); !ok || string(v) != "new" {
			t.Fatalf("the field is %q, %v", v, ok)
		}
	}); n != 0 {
		t.Errorf("looking up a field allocates %v times, want 0", n)
	}
}
