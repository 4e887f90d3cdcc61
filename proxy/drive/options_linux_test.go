package drive

import (
	"errors"
	"net/netip"
	"strings"
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

// A transparent socket takes connections to any address; whoever may not make one is told so, and gets none.
func TestTransparentSocket(t *testing.T) {
	s, err := Bind(netip.MustParseAddrPort("127.0.0.1:0"), BindOptions{Transparent: true})
	if errors.Is(err, unix.EPERM) && strings.Contains(err.Error(), "IP_TRANSPARENT") {
		return // not allowed here
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := unix.GetsockoptInt(s.fd, unix.SOL_IP, unix.IP_TRANSPARENT); err != nil || got != 1 {
		t.Errorf("IP_TRANSPARENT is %d, %v; want 1", got, err)
	}
}

// Each option of a listening socket is set at its moment: one that lets it be bound to a foreign address comes too
// late afterwards. What listens has the queues that were asked for.
func TestOptionsOfAListener(t *testing.T) {
	foreign := func(when SocketState) []SocketOption {
		return []SocketOption{{Level: unix.SOL_IP, Name: unix.IP_FREEBIND, Value: 1, When: when}}
	}
	s, err := Bind(netip.MustParseAddrPort("192.0.2.77:0"), BindOptions{Options: foreign(BeforeBind)})
	if err != nil {
		t.Fatalf("IP_FREEBIND before: %v", err)
	}
	s.Close()
	if s, err := Bind(netip.MustParseAddrPort("192.0.2.77:0"), BindOptions{Options: foreign(Bound)}); err == nil {
		s.Close()
		t.Error("IP_FREEBIND afterwards: bound all the same")
	}
	s, err = Bind(netip.MustParseAddrPort("127.0.0.1:0"), BindOptions{Backlog: 33, Options: []SocketOption{
		{Level: unix.SOL_SOCKET, Name: unix.SO_KEEPALIVE, Value: 1},
		{Level: unix.IPPROTO_TCP, Name: unix.TCP_KEEPIDLE, Value: 77},
		{Level: unix.IPPROTO_TCP, Name: unix.TCP_FASTOPEN, Value: 16, When: Listening},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, want := range map[int]int{unix.TCP_KEEPIDLE: 77, unix.TCP_FASTOPEN: 16} {
		if got, err := unix.GetsockoptInt(s.fd, unix.IPPROTO_TCP, name); err != nil || got != want {
			t.Errorf("TCP option %d is %d, %v; want %d", name, got, err, want)
		}
	}
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.Sacked != 33 { // where Linux puts the backlog of what listens
		t.Errorf("backlog %d, %v; want 33", info.Sacked, err)
	}
}
