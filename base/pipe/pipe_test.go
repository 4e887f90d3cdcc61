package pipe

import (
	"net/netip"
	"testing"
)

func TestAddr(t *testing.T) {
	for _, path := range []string{"/run/app.sock", "@abstract"} {
		if got, ok := Path(Addr(path)); got != path || !ok || String(Addr(path)) != path {
			t.Errorf("%s comes back as %q, %v", path, got, ok)
		}
	}
	if a := Addr("/a"); a != Addr("/"+"a") || a == Addr("/b") {
		t.Error("one socket is one address, two are two")
	}
	for _, a := range []string{"10.0.0.1:80", "[::]:80", "[fe80::1%eth0]:80"} {
		addr := netip.MustParseAddrPort(a)
		if path, ok := Path(addr); ok || String(addr) != a {
			t.Errorf("%s is taken for the socket %q", a, path)
		}
	}
}
