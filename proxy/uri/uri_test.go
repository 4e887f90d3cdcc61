package uri

import (
	"bytes"
	"net/url"
	"testing"
)

func TestParameter(t *testing.T) {
	const query = "a=1&b&a=2&&%61b=%41+%zz&=x&c=d=e&"
	for _, test := range []struct {
		name           string
		plain, decoded string // the value, as it is written; "-" for none
	}{
		{"a", "1", "1"}, // the first of a name
		{"b", "", ""},   // no = is an empty value
		{"%61b", "%41+%zz", "-"},
		{"ab", "-", "%41+%zz"}, // an escaped name is the name only to who asks so
		{"c", "d=e", "d=e"},    // the first = ends the name
		{"", "", ""},           // two ampersands have an empty name between them
		{"d", "-", "-"},
	} {
		for _, reading := range []struct {
			what string
			of   func([]byte, string) ([]byte, bool)
			want string
		}{{"Parameter", Parameter, test.plain}, {"Decoded", Decoded, test.decoded}} {
			got, found := reading.of([]byte(query), test.name)
			if !found {
				got = []byte("-")
			}
			if string(got) != reading.want {
				t.Errorf("%s(%q) = %q, want %q", reading.what, test.name, got, reading.want)
			}
		}
	}
}

func TestSplit(t *testing.T) {
	for _, test := range []struct{ target, path, query string }{
		{"/a?b=c", "/a", "b=c"},
		{"/a?b?c", "/a", "b?c"},  // only the first question mark counts
		{"/a#b?c", "/a", ""},     // a fragment has no query
		{"/a?b#c?d", "/a", "b"},  // and is none
		{"*", "*", ""},           // OPTIONS
		{"/%3Fa", "/%3Fa", ""},   // an escape separates nothing
		{"/a?", "/a", ""},        // nor is there anything to find
		{"/a&b=c", "/a&b=c", ""}, // ampersands of a path are its own
		{"?a=b", "", "a=b"},      // no path
		{"/a?%23=b", "/a", "%23=b"},
	} {
		path, query := Split([]byte(test.target))
		if string(path) != test.path || string(query) != test.query {
			t.Errorf("Split(%q) = %q, %q, want %q, %q", test.target, path, query, test.path, test.query)
		}
	}
}

// What is no escape stays as it is.
func TestAppendDecoded(t *testing.T) {
	for text, want := range map[string]string{"%41%zz": "A%zz", "a+b": "a+b", "%": "%", "%4": "%4", "%4g": "%4g", "%%41": "%A", "%00%fF": "\x00\xff", "": ""} {
		if got := string(AppendDecoded(nil, []byte(text))); got != want {
			t.Errorf("AppendDecoded(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestAllocs(t *testing.T) {
	query, room := []byte("a=1&b=%41%42&c=3"), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		Parameter(query, "c")
		v, _ := Decoded(query, "b")
		room = AppendDecoded(room[:0], v)
	}); n != 0 {
		t.Errorf("allocates %v times, want 0", n)
	}
}

// FuzzDecoded holds the decoder against net/url where that accepts, and finds every parameter that it finds.
func FuzzDecoded(f *testing.F) {
	f.Add([]byte("a=1&%62=%41"), "b")
	f.Add([]byte("%zz=&&=%"), "%zz")
	f.Fuzz(func(t *testing.T, query []byte, name string) {
		if want, err := url.PathUnescape(string(query)); err == nil {
			if got := AppendDecoded(nil, query); string(got) != want {
				t.Fatalf("AppendDecoded(%q) = %q, net/url has %q", query, got, want)
			}
		}
		var joined []byte
		for rest := query; len(rest) > 0; {
			n, v, more := Next(rest)
			cut := rest[:len(rest)-len(more)]
			joined, rest = append(joined, cut...), more
			if !bytes.HasPrefix(cut, n) || !bytes.Contains(cut, v) {
				t.Fatalf("Next(%q) = %q, %q", cut, n, v)
			}
		}
		if !bytes.Equal(joined, query) {
			t.Fatalf("parameters of %q are %q together", query, joined)
		}
		if v, found := Parameter(query, name); found && !bytes.Contains(query, v) {
			t.Fatalf("Parameter(%q, %q) = %q", query, name, v)
		}
	})
}
