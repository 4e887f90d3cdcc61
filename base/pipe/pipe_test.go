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

func TestInternal(t *testing.T) {
	for _, test := range []struct{ listener, endpoint, text string }{
		{"main", "", "envoy://main/"},
		{"connect_originate", "10.0.0.1:80", "envoy://connect_originate/10.0.0.1:80"},
		{"main", "a/b", "envoy://main/a/b"}, // an endpoint may be anything
	} {
		a := Internal(test.listener, test.endpoint)
		if listener, endpoint, ok := Inside(a); !ok || listener != test.listener || endpoint != test.endpoint || String(a) != test.text {
			t.Errorf("%s comes back as %q, %q, %v", test.text, listener, endpoint, ok)
		}
	}
	for _, a := range []netip.AddrPort{Addr("/run/app.sock"), Addr("@envoy"), netip.MustParseAddrPort("[::]:80"), {}} {
		if listener, _, ok := Inside(a); ok {
			t.Errorf("%s is taken for the listener %q", String(a), listener)
		}
	}
}

// Who writes an address as a client does not reach sockets and listeners that only configuration may name.
func TestParse(t *testing.T) {
	for _, bad := range []string{"::%/run/docker.sock", "::%@abstract", "::%envoy://main/", "::%x", "10.0.0.1.1", ""} {
		if a, ok := ParseAddr(bad); ok || a.IsValid() {
			t.Errorf("ParseAddr(%q) = %v", bad, a)
		}
		if a, ok := ParseAddrPort("[" + bad + "]:80"); ok || a.IsValid() {
			t.Errorf("ParseAddrPort([%s]:80) = %v", bad, a)
		}
	}
	for _, good := range []string{"10.0.0.1:80", "[::]:80", "[fe80::1%eth0]:80"} {
		if a, ok := ParseAddrPort(good); !ok || a != netip.MustParseAddrPort(good) {
			t.Errorf("ParseAddrPort(%q) = %v, %v", good, a, ok)
		}
	}
	if a, ok := ParseAddr("fe80::1%eth0"); !ok || a.Zone() != "eth0" {
		t.Errorf("a zone is lost: %v, %v", a, ok)
	}
}
