package stream

import (
	"net/netip"
	"testing"
)

// The answers are those of Envoy 1.40, which was asked these and a thousand random ones.
func TestPathsThatMeanTheSameAreTheSame(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"/a/b", "/a/b"},
		{"/", "/"},
		{"/a/./b", "/a/b"},
		{"/a/../b", "/b"},
		{"/a/%2e%2E/b", "/b"},
		{"/a/b/..", "/a/"},
		{"/a/.", "/a/"},
		{"/../../x", "/x"},
		{`/a\..\b`, "/b"},
		{"/...", "/..."},
		{"/a//b", "/a//b"},
		{"/%41dmin", "/Admin"}, // what need not be escaped is not
		{"/%7efoo/%2d%5F", "/~foo/-_"},
		{"/a%2ehtml", "/a.html"},
		{"/a%20b%3c%2f", "/a%20b%3c%2f"}, // the rest is left as it is written
		{`/a"<>^{|}b`, "/a%22%3C%3E%5E%7B%7C%7Db"},
		{"/%zz%2", "/%zz%2"},
		{"/a/.;x/b", "/a/b"}, // path parameters do not hide dots
		{"/a/..;x/b", "/b"},
		{"/a/..;x", "/"},
		{"/a/b/%2e%2e;/c", "/a/b/..;/c"},
		{"/a/...;x/c", "/a/...;x/c"},
		{"/%2%41", "/%252A"}, // no escape is made that was not there
		{"/%%32e", "/%252e"},
		{"/%%%41%41", "/%%25AA"},
		{"/%%41%42", "/%25AB"},
		{"/%25%41", "/%25A"},
		{"/a%00", ""},
	} {
		if got := string(canonical([]byte(test.in))); got != test.want {
			t.Errorf("%s becomes %q, want %q", test.in, got, test.want)
		}
	}
}

// Once is enough: a path that was made canonical stays as it is, so nobody behind us
// who does the same reads another path than our policies have seen.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{"/a/../%2e", "/%%32%65", `/\..;x/%41`, "/%2%41%%34%31"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if path == "" || path[0] != '/' {
			return
		}
		once := canonical([]byte(path))
		if once == nil {
			return
		}
		if len(once) == 0 || once[0] != '/' {
			t.Fatalf("%q becomes %q, want a path", path, once)
		}
		for _, c := range once {
			if pathBytes[c]&escape != 0 || c == '\\' {
				t.Fatalf("%q becomes %q, which holds %q", path, once, c)
			}
		}
	})
}

func TestSlashes(t *testing.T) {
	if got := string(mergeSlashes([]byte("//a///b/"))); got != "/a/b/" {
		t.Errorf("merged: %s", got)
	}
	if !hasEscapedSlash([]byte("/a%2Fb")) || !hasEscapedSlash([]byte("/a%5cb")) || hasEscapedSlash([]byte("/a%2")) {
		t.Error("escaped slashes are not found, or found where there are none")
	}
	if got := string(unescapeSlashes([]byte("/a%2fb%5Cc"))); got != `/a/b\c` {
		t.Errorf("unescaped: %s", got)
	}
}

func TestForwardedFor(t *testing.T) {
	for _, test := range []struct {
		xff      string
		skip     int
		want     string
		only, ok bool
	}{
		{"1.2.3.4", 0, "1.2.3.4", true, true},
		{"1.2.3.4, 5.6.7.8", 0, "5.6.7.8", false, true},
		{"1.2.3.4, 5.6.7.8", 1, "1.2.3.4", false, true},
		{"1.2.3.4", 1, "", true, false},
		{"junk", 0, "", true, false},
		{"", 0, "", false, false},
		{"fd00::1", 0, "fd00::1", true, true},
	} {
		a, only, ok := fromForwarded([]byte(test.xff), test.skip)
		if ok != test.ok || only != test.only || ok && a != netip.MustParseAddr(test.want) {
			t.Errorf("%q, %d before the end: %v %v %v, want %s", test.xff, test.skip, a, only, ok, test.want)
		}
	}
}
