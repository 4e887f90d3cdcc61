package redirect

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mallamesh/malla/test/process"
)

// envInside says that the test runs in its own namespaces.
const envInside = "MALLA_TEST_REDIRECT"

func TestMain(m *testing.M) {
	code := m.Run()
	process.Clean()
	os.Exit(code)
}

// inside reports whether the test runs in a network of its own. If not, it has run there now.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(envInside) != "" {
		return true
	}
	process.Tool(t, "nft")
	process.Tool(t, "ip")
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-test.short=%v", testing.Short()))
	cmd.Env = append(os.Environ(), envInside+"=1", "MALLA_BIN="+filepath.Join(filepath.Dir(process.Proxy(t)), "malla"))
	cmd.SysProcAttr = apart(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		process.Skip(t, "this machine refuses namespaces: "+err.Error())
	}
	t.Logf("inside:\n%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// apart starts a program as root of new namespaces; it ends with the test.
func apart(namespaces uintptr) *syscall.SysProcAttr {
	if namespaces == 0 {
		return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	root := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
	return &syscall.SysProcAttr{Cloneflags: namespaces, UidMappings: root(os.Getuid()), GidMappings: root(os.Getgid()), Pdeathsig: syscall.SIGKILL}
}

// A namespace is a descriptor of a network.
type namespace int

// newNamespace makes a network that is empty.
func newNamespace(t *testing.T) namespace {
	t.Helper()
	var ns int
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY, 0) // inherited by ip
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ns) })
	return namespace(ns)
}

// do calls f in the network: sockets and processes that f makes belong there.
func (n namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
}

// onThread calls f on a thread of its own, whose network f may change. The thread goes on afterwards with the
// one that it had: if it ended, what was started from it would end too.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		before, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer unix.Close(before)
		err = f()
		if back := unix.Setns(before, unix.CLONE_NEWNET); back != nil {
			panic(back)
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// sh runs a script that fails at its first mistake.
func sh(script string) error {
	out, err := exec.Command("sh", "-euc", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// A network is a client, a router, which is where the test itself runs, and a server.
type network struct {
	client, server namespace
}

// Addresses of the network. The client has a second one.
var (
	clients = map[string][2]string{"IPv4": {"10.0.1.2", "10.0.1.3"}, "IPv6": {"fd00:1::2", "fd00:1::3"}}
	servers = map[string]string{"IPv4": "10.0.2.2", "IPv6": "fd00:2::2"}
	routers = map[string]string{"IPv4": "10.0.2.1", "IPv6": "fd00:2::1"}
)

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{client: newNamespace(t), server: newNamespace(t)}
	end := func(net, host, far string) string {
		return fmt.Sprintf(`ip link set lo up
ip link set up dev up
ip addr add 10.0.%[1]s.%[2]s/24 dev up
ip -6 addr add fd00:%[1]s::%[2]s/64 dev up nodad
ip route replace 10.0.0.0/8 via 10.0.%[1]s.1
ip -6 route replace fd00::/16 via fd00:%[1]s::1
%[3]s`, net, host, far)
	}
	for _, step := range []struct {
		in     func(func() error) error
		script string
	}{
		{here, fmt.Sprintf(`ip link set lo up
ip link add c0 type veth peer name up netns /proc/%[1]d/fd/%[2]d
ip link add s0 type veth peer name up netns /proc/%[1]d/fd/%[3]d
ip link set c0 up
ip link set s0 up
ip addr add 10.0.1.1/24 dev c0
ip addr add 10.0.2.1/24 dev s0
ip -6 addr add fd00:1::1/64 dev c0 nodad
ip -6 addr add fd00:2::1/64 dev s0 nodad
ip rule add fwmark 1 lookup 100
ip route add local 0.0.0.0/0 dev lo table 100
ip -6 rule add fwmark 1 lookup 100
ip -6 route add local ::/0 dev lo table 100`, os.Getpid(), n.client, n.server)},
		{n.client.do, end("1", "2", "ip addr add 10.0.1.3/24 dev up\nip -6 addr add fd00:1::3/64 dev up nodad")},
		{n.server.do, end("2", "2", "")},
	} {
		if err := step.in(func() error { return sh(step.script) }); err != nil {
			t.Fatalf("make the network: %v", err)
		}
	}
	return n
}

func here(f func() error) error { return f() }

// serve has the server answer on a port with whom it sees, and where.
func (n *network) serve(t *testing.T, ports ...int) {
	t.Helper()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s came to %s", from, r.Context().Value(http.LocalAddrContextKey))
	})
	for _, port := range ports {
		var l net.Listener
		err := n.server.do(func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: h}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
	}
}

// browser returns a client that dials from an address of the client's.
func (n *network) browser(t *testing.T, from string) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		err = n.client.do(func() (err error) {
			c, err = d.DialContext(ctx, network, addr)
			return err
		})
		return c, err
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}
