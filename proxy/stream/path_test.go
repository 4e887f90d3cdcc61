package stream

import (
	"net/netip"
	"testing"
)

func TestRemoveDots(t *testing.T) {
	for in, want := range map[string]string{
		"/a/b":        "/a/b",
		"/":           "/",
		"/a/./b":      "/a/b",
		"/a/../b":     "/b",
		"/a/%2e%2E/b": "/b",
		"/a/b/..":     "/a/",
		"/a/.":        "/a/",
		"/../../x":    "/x",
		`/a\..\b`:     "/b",
		"/...":        "/...",
		"/a//b":       "/a//b",
		"/%41":        "/%41",
	} {
		if got := string(removeDots([]byte(in))); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
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
