package session

import (
	"testing"

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
