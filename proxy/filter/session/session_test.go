package session

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// FuzzCookie compares what a cookie says with what protobuf's own code reads.
func FuzzCookie(f *testing.F) {
	f.Add([]byte("\x0a\x0b10.0.0.1:80\x10\x80\x94\xeb\xdc\x0e"))
	f.Add([]byte{tagExpires, 1})
	f.Add([]byte{tagAddress, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, in []byte) {
		address, expires, ok := parseCookie(in)
		if !ok {
			return // a cookie that says nothing is always safe
		}
		var wantAddress []byte
		var wantExpires int64
		for b := in; len(b) > 0; {
			number, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				t.Fatalf("%x is no message, and we read %q", in, address)
			}
			b = b[n:]
			switch {
			case number == 1 && kind == protowire.BytesType:
				wantAddress, n = protowire.ConsumeBytes(b)
			case number == 2 && kind == protowire.VarintType:
				var v uint64
				v, n = protowire.ConsumeVarint(b)
				wantExpires = int64(v)
			default:
				t.Fatalf("%x has a field that is none of a cookie's, and we read %q", in, address)
			}
			if n < 0 {
				t.Fatalf("%x is no message, and we read %q", in, address)
			}
			b = b[n:]
		}
		if string(address) != string(wantAddress) || expires != wantExpires {
			t.Errorf("%x: we read %q, %d; protobuf's code %q, %d", in, address, expires, wantAddress, wantExpires)
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
