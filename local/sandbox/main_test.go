//go:build linux

package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/node/capture"
	"github.com/mallamesh/malla/node/dns"
)

// The test binary plays every part: "go test" runs it as the parent; the parent
// runs it as a supervisor, in which the same test function runs again for real
// (see inMesh); and pods run it as "/malla pod-test ...".

const envInside = "MALLA_TEST_SUPERVISOR"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "pod-test" {
		os.Exit(podProgram(os.Args[2:]))
	}
	if len(os.Args) > 3 && os.Args[1] == "refuse" {
		fmt.Fprintln(os.Stderr, "refuse:", refuse(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	if os.Getenv(envInside) != "" {
		if err := sandbox.EnterSupervisor(); err != nil {
			fmt.Fprintln(os.Stderr, "enter supervisor:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// A mesh is what a test has inside the supervisor.
type mesh struct {
	*testing.T
	router  *router.Router
	runtime *sandbox.Runtime
	dir     string
	pods    atomic.Uint32
}

// inMesh runs body as process 1 of a mesh's namespaces: called by "go test" it
// starts the supervisor, which calls it again.
func inMesh(t *testing.T, body func(*mesh), parent ...func(*testing.T)) {
	t.Helper()
	if dir := os.Getenv(envInside); dir != "" {
		level := slog.LevelInfo
		if os.Getenv("MALLA_TEST_DEBUG") != "" {
			level = slog.LevelDebug
		}
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
		r, err := router.New(router.Config{Broker: broker.NewClient(dir + "/broker.sock"), Log: log})
		if err != nil {
			t.Fatal(err)
		}
		rt, err := sandbox.New(dir+"/pods", r, log)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer rt.Close()
		body(&mesh{T: t, router: r, runtime: rt, dir: dir})
		return
	}
	needNamespaces(t)
	dir := stateDir(t)
	serveBroker(t, dir+"/broker.sock")
	for _, f := range parent {
		f(t) // tells body by environment variables
	}
	t.Setenv(envInside, dir)
	argv := []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v=true", "-test.timeout=60s", "-test.count=1"}
	out := captureOutput(t, func() {
		cmd, err := sandbox.StartSupervisor(t.Context(), argv, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("in the supervisor: %v", err)
		}
	})
	if t.Failed() || testing.Verbose() {
		t.Log("\n" + out)
	}
	if strings.Contains(out, "--- SKIP") {
		t.Skip("skipped in the supervisor")
	}
	if !strings.Contains(out, "--- PASS: "+t.Name()) && !t.Failed() {
		t.Errorf("the supervisor ran no test:\n%s", out)
	}
}

// needNamespaces skips where the system refuses what malla up needs.
func needNamespaces(t *testing.T) {
	t.Helper()
	findings := probe()
	if len(findings) == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("this system refuses what a local mesh needs: %v", findings)
	}
	t.Skipf("this system refuses what a local mesh needs: %v", findings)
}

// needTool skips where a program is missing, which CI must not.
func needTool(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: apt-get install %s", name, pkg)
	}
	t.Skipf("%s is not installed: apt-get install %s", name, pkg)
}

var probe = sync.OnceValue(sandbox.Probe)

// stateDir is short, because Unix socket paths are.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func serveBroker(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go broker.Serve(t.Context(), l, broker.Options{Resolvers: []netip.AddrPort{serveOutsideNames(t)}})
}

// serveOutsideNames is the host's resolver: it knows outside.test.
func serveOutsideNames(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{}
	s.SetTable(dns.NewTable([]string{"test"}, map[string]dns.Record{
		"outside.test": {Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}},
	}))
	go s.ServeUDP(c)
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// captureOutput returns what f's children write to our stdout and stderr.
func captureOutput(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := os.Stdout, os.Stderr
	var out bytes.Buffer
	done := make(chan struct{})
	go func() { io.Copy(&out, r); close(done) }()
	func() {
		os.Stdout, os.Stderr = w, w
		defer func() { os.Stdout, os.Stderr = stdout, stderr }()
		f()
	}()
	w.Close()
	<-done
	return out.String()
}

// pod makes a pod with addresses 10.244.0.n and ...:1::n.
func (m *mesh) pod(name string, change ...func(*sandbox.PodSpec)) *testPod {
	m.Helper()
	n := byte(m.pods.Add(1) + 1)
	s := sandbox.PodSpec{
		Name: name, Namespace: "default", UID: fmt.Sprintf("uid-%d", n), GracePeriod: 2 * time.Second,
		IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, n}), netip.MustParseAddr(fmt.Sprintf("fd00:6d61:6c6c:1::%x", n))},
		Search: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
	}
	for _, c := range change {
		c(&s)
	}
	start := time.Now()
	p, err := m.runtime.Create(m.Context(), s)
	if err != nil {
		m.Fatal(err)
	}
	m.Logf("pod %s created in %v", name, time.Since(start).Round(time.Microsecond))
	return &testPod{Pod: p, mesh: m, name: name, v4: s.IPs[0], v6: s.IPs[1]}
}

type testPod struct {
	*sandbox.Pod
	mesh   *mesh
	name   string
	v4, v6 netip.Addr
	seq    int
}

// start runs a container and returns its process and output.
func (p *testPod) start(c sandbox.ContainerSpec) (*sandbox.Process, *buffer) {
	p.mesh.Helper()
	p.seq++
	if c.Name == "" {
		c.Name = fmt.Sprintf("c%d", p.seq)
	}
	out := newBuffer()
	if c.Log == nil {
		c.Log = out
	}
	start := time.Now()
	q, err := p.Start(p.mesh.Context(), c)
	if err != nil {
		p.mesh.Fatalf("%s: %v", p.name, err)
	}
	p.mesh.Logf("container %s/%s started in %v", p.name, c.Name, time.Since(start).Round(time.Microsecond))
	return q, out
}

// run runs a shell command in a container of its own and returns its output.
func (p *testPod) run(command string, change ...func(*sandbox.ContainerSpec)) (string, sandbox.ExitStatus) {
	p.mesh.Helper()
	c := sandbox.ContainerSpec{Argv: []string{"/bin/sh", "-c", command}}
	for _, f := range change {
		f(&c)
	}
	q, out := p.start(c)
	s := q.Wait()
	return strings.TrimSpace(out.String()), s
}

// echo starts a server that answers every connection with the pod's name and
// the peer's address.
func (p *testPod) echo(port string) {
	p.mesh.Helper()
	_, out := p.start(sandbox.ContainerSpec{Name: "echo", Argv: []string{sandbox.Self, "pod-test", "serve", port, p.name}})
	out.waitFor(p.mesh.T, "ready")
}

// ask connects from the pod and returns what the server says.
func (p *testPod) ask(addr string) string {
	p.mesh.Helper()
	out, _ := p.runArgs(sandbox.Self, "pod-test", "ask", addr)
	return out
}

func (p *testPod) runArgs(argv ...string) (string, sandbox.ExitStatus) {
	p.mesh.Helper()
	q, out := p.start(sandbox.ContainerSpec{Argv: argv})
	s := q.Wait()
	return strings.TrimSpace(out.String()), s
}

// A buffer can be read while it is written, and waited for.
type buffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{}
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{})} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.more)
	b.more = make(chan struct{})
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		b.mu.Lock()
		found, more := strings.Contains(b.b.String(), text), b.more
		b.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("no %q within 10 s in %q", text, b.String())
		}
	}
}

// podProgram is what "/malla pod-test" does in pods.
func podProgram(args []string) int {
	switch args[0] {
	case "serve": // PORT NAME
		l, err := net.Listen("tcp", ":"+args[1])
		if err != nil {
			return fail(err)
		}
		fmt.Println("ready")
		for {
			c, err := l.Accept()
			if err != nil {
				return fail(err)
			}
			go func() {
				defer c.Close()
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintf(c, "%s saw %s\n", args[2], host)
			}()
		}
	case "hold": // ADDR: says when the peer ends the connection
		c, err := net.Dial("tcp", args[1])
		if err != nil {
			return fail(err)
		}
		fmt.Println("connected")
		go func() {
			for {
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				<-time.After(20 * time.Millisecond)
			}
		}()
		_, err = io.Copy(io.Discard, c)
		fmt.Println("ended:", err)
		return 0
	case "sink": // PORT: accepts and reads
		l, err := net.Listen("tcp", ":"+args[1])
		if err != nil {
			return fail(err)
		}
		fmt.Println("ready")
		for {
			c, err := l.Accept()
			if err != nil {
				return fail(err)
			}
			go io.Copy(io.Discard, c)
		}
	case "ask": // ADDR
		start := time.Now()
		c, err := net.DialTimeout("tcp", args[1], 5*time.Second)
		if err != nil {
			if time.Since(start) > 2*time.Second { // where nobody says no, neighbours are asked for 3 s
				fmt.Println("slow")
			}
			return fail(err)
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		if err != nil {
			return fail(err)
		}
		os.Stdout.Write(b)
		return 0
	case "mark": // tries SO_MARK
		d := net.Dialer{Control: setMark}
		c, err := d.Dial("tcp", args[1])
		if err != nil {
			return fail(err)
		}
		b, _ := io.ReadAll(c)
		os.Stdout.Write(b)
		return 0
	case "sidecar": // takes every redirected connection and says what it wanted
		var d net.Dialer
		d.Control = setMark
		for _, port := range []string{"15001", "15006"} {
			l, err := net.Listen("tcp", ":"+port)
			if err != nil {
				return fail(err)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						dst, err := capture.OriginalDst(c.(*net.TCPConn))
						fmt.Fprintf(c, "%s %v %v\n", port, dst, err)
					}()
				}
			}()
		}
		fmt.Println("ready")
		select {}
	case "between": // takes every connection by TPROXY, and asks the application in its client's name
		return between()
	case "attack":
		attack()
		return 0
	case "udp-serve": // PORT NAME
		c, err := net.ListenPacket("udp", ":"+args[1])
		if err != nil {
			return fail(err)
		}
		fmt.Println("ready")
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return fail(err)
			}
			c.WriteTo(fmt.Appendf(nil, "%s to %s", args[2], b[:n]), from)
		}
	case "half": // ADDR: sends, ends its side, and reads what comes after
		c, err := net.Dial("tcp", args[1])
		if err != nil {
			return fail(err)
		}
		go func() {
			b := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MB
			for range 8 {
				c.Write(b)
			}
			c.(*net.TCPConn).CloseWrite()
		}()
		b, err := io.ReadAll(c)
		fmt.Printf("%s %v", b, err)
		return 0
	}
	return fail(fmt.Errorf("no program %q", args[0]))
}

func fail(err error) int {
	fmt.Println("error:", err)
	return 1
}

// between is a sidecar that neither the client nor the application sees. It says what it takes.
func between() int {
	listen := net.ListenConfig{Control: setTransparent}
	l, err := listen.Listen(context.Background(), "tcp", ":15006")
	if err != nil {
		return fail(err)
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return fail(err)
		}
		go func() {
			defer c.Close()
			source := *c.RemoteAddr().(*net.TCPAddr)
			source.Port = 0
			d := net.Dialer{LocalAddr: &source, Timeout: 5 * time.Second, Control: func(a, b string, c syscall.RawConn) error {
				return errors.Join(setMark(a, b, c), setTransparent(a, b, c))
			}}
			up, err := d.Dial("tcp", c.LocalAddr().String())
			if err != nil {
				fmt.Fprintln(c, err)
				return
			}
			defer up.Close()
			fmt.Fprintf(c, "for %s: ", c.LocalAddr())
			io.Copy(c, up)
		}()
	}
}

func setTransparent(network, _ string, c syscall.RawConn) (err error) {
	c.Control(func(fd uintptr) {
		if strings.HasSuffix(network, "6") {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_IPV6, 75, 1) // IPV6_TRANSPARENT
		} else {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_IP, syscall.IP_TRANSPARENT, 1)
		}
	})
	return err
}

func setMark(_, _ string, c syscall.RawConn) (err error) {
	c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, capture.DefaultMark)
	})
	return err
}
