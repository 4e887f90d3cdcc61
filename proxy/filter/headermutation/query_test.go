package headermutation

import (
	"testing"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
)

// What a client has escaped stays escaped: it could end the parameter, or the request's line.
func TestQuery(t *testing.T) {
	value := func(text string) *access.Format {
		f, err := access.CompileHeader(text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, test := range []struct{ path, want string }{
		{"/p", "/p?b=1%202%26"},
		{"/p?a=x%20HTTP/1.1%0d%0aX-Evil:%20yes", "/p?a=x%20HTTP/1.1%0d%0aX-Evil:%20yes&b=1%202%26"},
		{"/p?c=1%26admin=1", "/p?b=1%202%26&c=1%26admin=1"},
		{"/p?c=%zz&%61=1+2&a", "/p?%61=1+2&a=&b=1%202%26&c=%zz"},
		{"/p?go%6Ee=1&gone=2", "/p?b=1%202%26"}, // by another spelling of its name, too
	} {
		var m header.Map
		m.Add(header.Path, []byte(test.path))
		c := Config{Query: []Parameter{{Name: "b", Value: value("1 2&")}, {Name: "gone"}}}
		c.query(&m, &access.Record{})
		if got := string(m.Get(header.Path)); got != test.want {
			t.Errorf("%q becomes %q, want %q", test.path, got, test.want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("/p?a=%0d%0a&b=%26&c", "a", "b")
	f.Fuzz(func(t *testing.T, path, gone, name string) {
		if !header.ValidTarget([]byte(path)) {
			return
		}
		value, _ := access.CompileHeader("\r\n ")
		var m header.Map
		m.Add(header.Path, []byte(path))
		c := Config{Query: []Parameter{{Name: gone}, {Name: name, Value: value}}}
		if c.query(&m, &access.Record{}); !header.ValidTarget(m.Get(header.Path)) {
			t.Errorf("%q becomes %q", path, m.Get(header.Path))
		}
	})
}
