package header

import "testing"

// The index of a message with very many fields is right: how many there may be is for the configuration to say.
func TestVeryManyFields(t *testing.T) {
	var m Map
	for range 1<<16 - 1 {
		m.AddName([]byte("x"), []byte("y"))
	}
	m.AddName([]byte("authorization"), []byte("secret"))
	m.AddName([]byte("cookie"), []byte("c"))
	if a, c := m.Get(Authorization), m.Get(Cookie); string(a) != "secret" || string(c) != "c" {
		t.Errorf("authorization is %q and cookie %q, want secret and c", a, c)
	}
	m.RemoveName([]byte("authorization"))
	if c := m.Get(Cookie); string(c) != "c" || m.Has(Authorization) {
		t.Errorf("after authorization was removed, cookie is %q", c)
	}
}
