package stream

import (
	"testing"
	"unsafe"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
)

// An idle connection of HTTP/1.1 is three pieces of memory. Proxies hold thousands of them; the sizes are those that the
// allocator has, and one byte more takes the next.
func TestIdleConnectionIsSmall(t *testing.T) {
	for _, test := range []struct {
		what      string
		got, want uintptr
	}{
		{"drive.Conn", unsafe.Sizeof(drive.Conn{}), 384},
		{"listen.Conn", unsafe.Sizeof(listen.Conn{}), 480},
		{"server", unsafe.Sizeof(server{}), 320},
	} {
		if test.got > test.want {
			t.Errorf("%s has %d bytes, want at most %d", test.what, test.got, test.want)
		}
	}
}
