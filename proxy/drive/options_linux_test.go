package drive

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// What a dial asks for stands on its socket before it connects.
func TestOptionsOfADial(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	want := []SocketOption{
		{Level: unix.SOL_SOCKET, Name: unix.SO_KEEPALIVE, Value: 1},
		{Level: unix.IPPROTO_TCP, Name: unix.TCP_KEEPIDLE, Value: 77},
	}
	if err := prepare(fd, Dial{Addr: netip.MustParseAddrPort("127.0.0.1:1"), Options: want}); err != nil {
		t.Fatal(err)
	}
	for _, o := range want {
		if got, err := unix.GetsockoptInt(fd, o.Level, o.Name); err != nil || got != o.Value {
			t.Errorf("option %d/%d is %d, %v; want %d", o.Level, o.Name, got, err, o.Value)
		}
	}
	if err := prepare(fd, Dial{Addr: netip.MustParseAddrPort("127.0.0.1:1"), Options: []SocketOption{{Level: 9999, Name: 1}}}); err == nil {
		t.Error("an option that there is not was set")
	}
}
