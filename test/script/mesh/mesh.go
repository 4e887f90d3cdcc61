// Package mesh drives the real malla binary: it starts a mesh on this machine,
// types commands at it, makes load, looks at its processes, and ends it whatever
// happens, the death of the caller included.
//
// It knows malla only from outside: command lines, what they print, ports, and
// what the kernel says of its processes. What is right or wrong is for the tests
// in the directory above and for test/bench, which share this package.
//
// [Until] is the only place of the suites that waits in real time.
package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// T is what this package asks of a test; *testing.T has it.
type T interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Options say what is started.
type Options struct {
	Name  string   // of the mesh; default "t"
	Paths []string // manifests
	Flags []string // of up, besides --detach and --publish
	// Publish are ports of gateways that are offered on free ports of this machine,
	// so that suites run side by side; default 80. See Mesh.Port.
	Publish []int
	Env     []string
	Limit   time.Duration // until up returns; default 60 s
	Home    string        // state directory; default: a new one
	User    int           // the caller's uid and gid, if this process is root; 0: as this process
	Bin     string        // the program; default: Binary
}

// A Mesh is one that runs, or that has been asked to.
type Mesh struct {
	Name, Home, Bin string

	// What `up` printed, and how long it took.
	Up   Result
	Took time.Duration

	t     T
	env   []string
	ports map[int]int
	user  int
}

// Result is a command's end.
type Result struct {
	Out, Err string
	Code     int
}

func (r Result) String() string {
	return fmt.Sprintf("exit %d\nstdout:\n%sstderr:\n%s", r.Code, r.Out, r.Err)
}

var build struct {
	sync.Once
	path string
	err  error
}

// Binary returns the program under test: MALLA_BIN, or else one that is built
// once for this process.
func Binary(t T) string {
	t.Helper()
	if bin := os.Getenv("MALLA_BIN"); bin != "" {
		return bin
	}
	build.Do(func() {
		dir, err := os.MkdirTemp("", "malla-bin")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "malla")
		cmd := exec.Command("go", "build", "-o", build.path, "github.com/mallamesh/malla/cmd/malla")
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("build cmd/malla: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatalf("%v", build.err)
	}
	return build.path
}

// RemoveBinary deletes what Binary has built.
func RemoveBinary() {
	if build.path != "" {
		os.RemoveAll(filepath.Dir(build.path))
	}
}

// Samples is the directory of the module's samples.
func Samples(t T, parts ...string) string {
	t.Helper()
	return filepath.Join(append([]string{Root(t), "samples"}, parts...)...)
}

// Root is the module's directory.
func Root(t T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatalf("this is not the module's directory")
	return ""
}

// New returns a mesh that does not run yet, with a state directory of its own.
func New(t T, o Options) *Mesh {
	t.Helper()
	m := &Mesh{Name: o.Name, Home: o.Home, Bin: o.Bin, t: t, env: o.Env, ports: map[int]int{}, user: o.User}
	if m.Bin == "" {
		m.Bin = Binary(t)
	}
	if m.Name == "" {
		m.Name = "t"
	}
	if m.Home == "" {
		home, err := os.MkdirTemp("", "malla")
		if err != nil {
			t.Fatalf("%v", err)
		}
		m.Home = home
		t.Cleanup(func() { os.RemoveAll(home) })
		if m.user != 0 {
			if err := os.Chown(home, m.user, m.user); err != nil {
				t.Fatalf("%v", err)
			}
		}
	}
	if o.Publish == nil {
		o.Publish = []int{80}
	}
	for _, p := range o.Publish {
		m.ports[p] = FreePort(t)
	}
	guard(t, m)
	t.Cleanup(m.end)
	return m
}

// Up starts a mesh and returns when all of it is ready.
func Up(t T, o Options) *Mesh {
	t.Helper()
	m := New(t, o)
	m.Start(o)
	if m.Up.Code != 0 {
		t.Fatalf("malla up %s: %s\n%s", strings.Join(o.Paths, " "), m.Up, m.Log())
	}
	return m
}

// Start runs `up --detach` and keeps what it answered.
func (m *Mesh) Start(o Options) {
	m.t.Helper()
	args := append([]string{"up", "--detach"}, o.Flags...)
	for in, host := range m.ports {
		args = append(args, "--publish", fmt.Sprintf("%d:%d", host, in))
	}
	limit := o.Limit
	if limit == 0 {
		limit = time.Minute
	}
	start := time.Now()
	m.Up = m.RunIn(limit, "", append(args, o.Paths...)...)
	m.Took = time.Since(start)
}

// guard ends the mesh when this process dies before it could do so itself: the
// guard reads from a pipe whose other end dies with us.
func guard(t T, m *Mesh) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("%v", err)
	}
	cmd := exec.Command("/bin/sh", "-c", `read x; [ "$x" = done ] || "$0" --mesh "$1" stop`, m.Bin, m.Name)
	cmd.Env = m.Env()
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v", err)
	}
	r.Close()
	t.Cleanup(func() {
		fmt.Fprintln(w, "done")
		w.Close()
		_ = cmd.Wait()
	})
}

// Env is the environment of the mesh's commands.
func (m *Mesh) Env() []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "KUBECONFIG", "MALLA_MESH", "MALLA_HOME", "XDG_STATE_HOME":
		default:
			env = append(env, e)
		}
	}
	return append(append(env, "MALLA_HOME="+m.Home, "KUBECONFIG=/dev/null"), m.env...)
}

// Command is `malla args...` on this mesh, not started.
func (m *Mesh) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.Bin, append([]string{"--mesh", m.Name}, args...)...)
	cmd.Env = m.Env()
	cmd.WaitDelay = 2 * time.Second
	if m.user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(m.user), Gid: uint32(m.user), NoSetGroups: false}}
		cmd.Dir = "/"
	}
	return cmd
}

// RunIn runs `malla args...` with a time limit and stdin.
func (m *Mesh) RunIn(limit time.Duration, stdin string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := m.Command(ctx, args...)
	// Files, not pipes: a detached child that keeps its parent's stdout open is the
	// product's fault, but must not hang the suite.
	out, err := os.CreateTemp("", "out")
	if err != nil {
		m.t.Fatalf("%v", err)
	}
	defer out.Close()
	defer os.Remove(out.Name())
	var errs bytes.Buffer
	errFile, err := os.CreateTemp("", "err")
	if err != nil {
		m.t.Fatalf("%v", err)
	}
	defer errFile.Close()
	defer os.Remove(errFile.Name())
	cmd.Stdout, cmd.Stderr = out, errFile
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var r Result
	if err := cmd.Run(); err != nil {
		r.Code = -1
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() >= 0 {
			r.Code = exit.ExitCode()
		}
	}
	text, _ := os.ReadFile(out.Name())
	r.Out = string(text)
	text, _ = os.ReadFile(errFile.Name())
	errs.Write(text)
	if ctx.Err() != nil {
		fmt.Fprintf(&errs, "(the test ended it after %v)\n", limit)
	}
	r.Err = errs.String()
	return r
}

// Run runs `malla args...`.
func (m *Mesh) Run(args ...string) Result { return m.RunIn(30*time.Second, "", args...) }

// Must runs a command that has to succeed and returns what it printed.
func (m *Mesh) Must(args ...string) string {
	m.t.Helper()
	r := m.Run(args...)
	if r.Code != 0 {
		m.t.Fatalf("malla %s: %s", strings.Join(args, " "), r)
	}
	return r.Out
}

// Apply applies a text of manifests.
func (m *Mesh) Apply(manifests string, flags ...string) string {
	m.t.Helper()
	r := m.RunIn(30*time.Second, manifests, append([]string{"apply", "-f", "-"}, flags...)...)
	if r.Code != 0 {
		m.t.Fatalf("malla apply: %s\n%s", r, manifests)
	}
	return r.Out + r.Err
}

// Delete deletes what a text of manifests names, and does not mind if it is gone.
func (m *Mesh) Delete(manifests string, flags ...string) {
	m.t.Helper()
	r := m.RunIn(30*time.Second, manifests, append([]string{"delete", "--ignore-not-found", "-f", "-"}, flags...)...)
	if r.Code != 0 {
		m.t.Errorf("malla delete: %s", r)
	}
}

// In is the same mesh for a subtest, which then is the one that fails.
func (m *Mesh) In(t T) *Mesh {
	c := *m
	c.t = t
	return &c
}

// Dir is the mesh's state directory.
func (m *Mesh) Dir() string { return filepath.Join(m.Home, m.Name) }

// Log is what the mesh in the background has to say.
func (m *Mesh) Log() string {
	text, _ := os.ReadFile(filepath.Join(m.Dir(), "up.log"))
	if len(text) > 8000 {
		text = text[len(text)-8000:]
	}
	return "up.log:\n" + string(text)
}

// PID is the process that holds the mesh, 0 if there is none.
func (m *Mesh) PID() int {
	text, err := os.ReadFile(filepath.Join(m.Dir(), "up.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if _, err := readProcess(pid); err != nil {
		return 0
	}
	return pid
}

// Port is where a gateway's port was asked to be on this machine.
func (m *Mesh) Port(port int) int { return m.ports[port] }

// URL is a path at the gateway's port 80.
func (m *Mesh) URL(path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(m.ports[80]) + path
}

// Stop ends the mesh with `malla stop`.
func (m *Mesh) Stop() Result { return m.Run("stop") }

// end makes sure that the mesh is gone.
func (m *Mesh) end() {
	pid := m.PID()
	if pid == 0 {
		return
	}
	r := m.Stop()
	if r.Code != 0 {
		m.t.Errorf("malla stop: %s\n%s", r, m.Log())
	}
	if m.PID() != 0 {
		m.t.Errorf("the mesh is still there after stop: process %d is killed", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

var taken sync.Map // ports handed out by this process

// FreePort returns a port of 127.0.0.1 that nobody uses, below the range that
// the kernel gives to outgoing connections.
func FreePort(t T) int {
	t.Helper()
	first := 20000 + os.Getpid()%8000
	for p := first; p < 32000; p++ {
		if _, used := taken.LoadOrStore(p, true); used {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
		if err != nil {
			continue
		}
		l.Close()
		return p
	}
	t.Fatalf("no free port")
	return 0
}
