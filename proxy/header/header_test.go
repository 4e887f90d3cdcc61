package header

import (
	"fmt"
	"testing"
)

func TestEveryNameFindsItsToken(t *testing.T) {
	for tok := None + 1; tok < numTokens; tok++ {
		if tok.String() == "" {
			t.Fatalf("token %d has no name", tok)
		}
		if got := TokenOf(tok.Name()); got != tok {
			t.Errorf("TokenOf(%q) = %v, want itself", tok.Name(), got)
		}
	}
	for _, other := range []string{"", "x", "x-other", "content-lengt", "content-lengtH", "hostt"} {
		if got := TokenOf([]byte(other)); got != None {
			t.Errorf("TokenOf(%q) = %v, want None", other, got)
		}
	}
}

func text(m *Map) string {
	s := ""
	for _, f := range m.Fields() {
		s += fmt.Sprintf("%s=%s ", f.Name, f.Value)
	}
	return s
}

func sample() *Map {
	m := new(Map)
	for _, f := range [][2]string{{":path", "/"}, {"host", "a"}, {"x-a", "1"}, {"cookie", "c1"}, {"x-b", "2"}, {"x-a", "3"}, {"cookie", "c2"}} {
		m.AddNameCopy([]byte(f[0]), []byte(f[1]))
	}
	return m
}

func TestEdits(t *testing.T) {
	for _, test := range []struct {
		what string
		do   func(*Map)
		want string
	}{
		{"host is :authority", func(*Map) {}, ":path=/ :authority=a x-a=1 cookie=c1 x-b=2 x-a=3 cookie=c2 "},
		{"Set keeps the place of the first and drops the rest", func(m *Map) { m.Set(Cookie, []byte("z")) }, ":path=/ :authority=a x-a=1 cookie=z x-b=2 x-a=3 "},
		{"SetName too", func(m *Map) { m.SetName([]byte("x-a"), []byte("z")) }, ":path=/ :authority=a x-a=z cookie=c1 x-b=2 cookie=c2 "},
		{"Remove takes all", func(m *Map) { m.Remove(Cookie) }, ":path=/ :authority=a x-a=1 x-b=2 x-a=3 "},
		{"RemoveName takes all", func(m *Map) { m.RemoveName([]byte("x-a")) }, ":path=/ :authority=a cookie=c1 x-b=2 cookie=c2 "},
		{"RemovePrefix", func(m *Map) { m.RemovePrefix("x-") }, ":path=/ :authority=a cookie=c1 cookie=c2 "},
		{"removing what is not there changes nothing", func(m *Map) { m.Remove(Server) }, ":path=/ :authority=a x-a=1 cookie=c1 x-b=2 x-a=3 cookie=c2 "},
	} {
		m := sample()
		test.do(m)
		if got := text(m); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.what, got, test.want)
		}
		for _, f := range m.Fields() { // the index must agree with the list
			if f.Token == None {
				continue
			}
			for _, g := range m.Fields() {
				if g.Token == f.Token {
					if string(m.Get(f.Token)) != string(g.Value) {
						t.Errorf("%s: Get(%v) = %q, want %q", test.what, f.Token, m.Get(f.Token), g.Value)
					}
					break
				}
			}
		}
	}
}

func TestLookup(t *testing.T) {
	m := sample()
	for name, want := range map[string]string{"host": "a", ":authority": "a", "x-a": "1", "cookie": "c1", "none": ""} {
		if got := m.Lookup([]byte(name)); string(got) != want {
			t.Errorf("Lookup(%q) = %q, want %q", name, got, want)
		}
		if got := m.LookupString(name); string(got) != want {
			t.Errorf("LookupString(%q) = %q, want %q", name, got, want)
		}
	}
	if got := fmt.Sprintf("%s", m.Values(nil, []byte("x-a"))); got != "[1 3]" {
		t.Errorf("Values(x-a) = %s", got)
	}
	if got := fmt.Sprintf("%s", m.Values(nil, []byte("cookie"))); got != "[c1 c2]" {
		t.Errorf("Values(cookie) = %s", got)
	}
}

func TestOwnOutlivesTheReadBuffer(t *testing.T) {
	buf := []byte("x-name value GET")
	var m Map
	m.AddName(buf[:6], buf[7:12])
	m.Add(Method, buf[13:])
	m.Own()
	clear(buf)
	if got, want := text(&m), "x-name=value :method=GET "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReuseDoesNotAllocate(t *testing.T) {
	var m Map
	name, value := []byte("x-something"), []byte("value")
	n := testing.AllocsPerRun(100, func() {
		m.Reset()
		for range 20 {
			m.AddName(name, value)
		}
		m.SetCopy(Path, value)
		m.Remove(Path)
		m.RemoveName(name)
		m.Own()
	})
	if n != 0 {
		t.Errorf("a message costs %v allocations, want 0", n)
	}
}

func BenchmarkTokenOf(b *testing.B) {
	name := []byte("x-forwarded-proto")
	for b.Loop() {
		TokenOf(name)
	}
}

// What is no status of three digits is none.
func TestStatusCode(t *testing.T) {
	for _, test := range []struct {
		value string
		want  int
	}{{"200", 200}, {"099", 99}, {"", 0}, {"20", 0}, {"2000", 0}, {"2x0", 0}, {"-20", 0}} {
		m := new(Map)
		m.Set(Status, []byte(test.value))
		if got := m.StatusCode(); got != test.want {
			t.Errorf("StatusCode of %q = %d, want %d", test.value, got, test.want)
		}
	}
	if got := new(Map).StatusCode(); got != 0 {
		t.Errorf("StatusCode of nothing = %d, want 0", got)
	}
}
