package session

import (
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/typepb"
)

// FuzzCookie compares what a cookie says with what protobuf's own code reads, of a message that has a name and a number, too.
func FuzzCookie(f *testing.F) {
	f.Add([]byte("\x0a\x0b10.0.0.1:80\x10\x80\x94\xeb\xdc\x0e"))
	f.Add([]byte{tagExpires, 1})
	f.Add([]byte{tagExpires, 1, 0x28, 5})
	f.Add([]byte{tagAddress, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, in []byte) {
		peer := &typepb.EnumValue{}
		if proto.Unmarshal(in, peer) != nil {
			return // its name must be UTF-8, and it has a third field, which we pass over
		}
		address, expires, ok := parseCookie(in)
		if !ok || string(address) != peer.GetName() || int32(expires) != peer.GetNumber() {
			t.Errorf("%x: we read %q, %d, %v; protobuf's code %q, %d", in, address, expires, ok, peer.GetName(), peer.GetNumber())
		}
	})
}

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		of, path string
		want     bool
	}{
		{"", "/x", true}, {"/", "/x", true}, {"/a", "/a", true}, {"/a", "/a/b", true}, {"/a", "/a?b", true}, {"/a", "/ab", false}, {"/a/", "/a/b", true}, {"/a/", "/a", false},
	} {
		c := &Config{Cookie: "s", Path: test.of}
		if got := c.covers([]byte(test.path)); got != test.want {
			t.Errorf("a cookie of %q covers %q: %v, want %v", test.of, test.path, got, test.want)
		}
	}
}

// FuzzAddress compares addresses that clients bring with how netip reads them.
func FuzzAddress(f *testing.F) {
	for _, text := range []string{"10.0.0.1:80", "255.255.255.255:65535", "256.0.0.1:80", "10.0.0.1:65536", "10.00.0.1:80", "10.0.0.1:080", "10.0.0.1:", "10.0.0.1", "1.2.3.4:5 ", "[::1]:80", "[fe80::1%eth0]:80", ""} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, ok := parseAddress(in)
		if want, err := netip.ParseAddrPort(string(in)); got != want || ok != (err == nil) {
			t.Errorf("%q: we read %v, %v; netip %v, %v", in, got, ok, want, err)
		}
	})
}

// A cookie that was made is read as what it was made of.
func FuzzOwnCookie(f *testing.F) {
	f.Add("10.0.0.1:80", int64(60))
	f.Add("[2001:db8::1]:65535", int64(0))
	f.Fuzz(func(t *testing.T, text string, seconds int64) {
		ttl := time.Duration(max(0, seconds%1e6)) * time.Second
		c := &Config{Cookie: "s", After: "; HttpOnly", TTL: ttl}
		cookie := string(c.appendCookie(nil, []byte(text), time.Unix(1e9, 0)))
		coded, ok := strings.CutPrefix(cookie, `s="`)
		coded, ok2 := strings.CutSuffix(coded, `"; HttpOnly`)
		message, err := base64.StdEncoding.DecodeString(coded)
		address, expires, ok3 := parseCookie(message)
		if !ok || !ok2 || !ok3 || err != nil || string(address) != text || ttl > 0 && expires != 1e9+int64(ttl/time.Second) || ttl == 0 && expires != 0 {
			t.Errorf("%q for %v became %q, which is read as %q, %d", text, ttl, cookie, address, expires)
		}
	})
}
