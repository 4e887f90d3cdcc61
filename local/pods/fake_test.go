package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/local/api"
	"github.com/mallamesh/malla/local/sandbox"
)

// A program is what an image stands for in these tests. It returns its exit code.
type program func(p *fakeProcess) int

// fakeMachine makes sandboxes of goroutines.
type fakeMachine struct {
	dir string

	mu       sync.Mutex // guards what follows
	programs map[string]program
	boxes    []*fakeBox
	refuse   error // to make a sandbox
}

func (m *fakeMachine) create(_ context.Context, s sandbox.PodSpec) (box, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		return nil, m.refuse
	}
	b := &fakeBox{m: m, spec: s, dir: filepath.Join(m.dir, fmt.Sprint("box", len(m.boxes))), done: make(chan struct{}), listening: map[string]http.Handler{}}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	m.boxes = append(m.boxes, b)
	return b, nil
}

func (m *fakeMachine) box(i int) *fakeBox {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boxes[i]
}

// fakeBox is a sandbox whose processes are goroutines.
type fakeBox struct {
	m    *fakeMachine
	spec sandbox.PodSpec
	dir  string
	done chan struct{}

	mu        sync.Mutex // guards what follows
	gone      bool
	processes []*fakeProcess
	listening map[string]http.Handler // by port, or by address and port
}

type fakeProcess struct {
	b       *fakeBox
	spec    sandbox.ContainerSpec
	exec    sandbox.ExecSpec
	term    chan struct{} // closed by SIGTERM
	kill    chan struct{} // closed by SIGKILL
	ended   chan struct{}
	mu      sync.Mutex
	status  sandbox.ExitStatus
	signals []os.Signal
}

func (b *fakeBox) Dir() string           { return b.dir }
func (b *fakeBox) Done() <-chan struct{} { return b.done }

func (b *fakeBox) Start(_ context.Context, s sandbox.ContainerSpec) (process, error) {
	b.m.mu.Lock()
	run := b.m.programs[s.Argv[0]]
	b.m.mu.Unlock()
	if run == nil {
		return nil, fmt.Errorf("start %s: no such file", s.Argv[0])
	}
	return b.launch(&fakeProcess{b: b, spec: s}, run)
}

func (b *fakeBox) Exec(_ context.Context, _ string, s sandbox.ExecSpec) (process, error) {
	b.m.mu.Lock()
	run := b.m.programs[s.Argv[0]]
	b.m.mu.Unlock()
	if run == nil {
		return nil, fmt.Errorf("exec %s: no such file", s.Argv[0])
	}
	return b.launch(&fakeProcess{b: b, exec: s}, run)
}

func (b *fakeBox) launch(p *fakeProcess, run program) (process, error) {
	p.term, p.kill, p.ended = make(chan struct{}), make(chan struct{}), make(chan struct{})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return nil, errors.New("the pod has gone")
	}
	b.processes = append(b.processes, p)
	code := make(chan int, 1)
	go func() { code <- run(p) }()
	go func() {
		defer close(p.ended)
		select {
		case c := <-code:
			p.status = sandbox.ExitStatus{Code: c}
		case <-p.kill:
			b.mu.Lock()
			p.status = sandbox.ExitStatus{Code: 137, Signal: sigKill, PodGone: b.gone}
			b.mu.Unlock()
		}
	}()
	return p, nil
}

// Kill ends all processes; that they have gone is known before that the sandbox has.
func (b *fakeBox) Kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gone {
		return
	}
	b.gone = true
	processes := b.processes
	go func() {
		for _, p := range processes {
			_ = p.Signal(sigKill)
			<-p.ended
		}
		time.Sleep(time.Millisecond)
		close(b.done)
	}()
}

// listen answers HTTP on a port.
func (b *fakeBox) listen(port string, h http.Handler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h == nil {
		delete(b.listening, port)
		return
	}
	b.listening[port] = h
}

func (b *fakeBox) Dial(_ context.Context, _, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	h := b.listening[port]
	if h == nil {
		h = b.listening[addr]
	}
	b.mu.Unlock()
	if h == nil {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	go func() {
		l := &oneConn{c: theirs, closed: make(chan struct{})}
		_ = http.Serve(l, h)
	}()
	return ours, nil
}

// oneConn is a listener with one connection, which ends with it.
type oneConn struct {
	c      net.Conn
	taken  bool
	closed chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.taken {
		return nil, io.EOF
	}
	l.taken = true
	return l.c, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.c.LocalAddr() }

func (p *fakeProcess) Signal(s os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signals = append(p.signals, s)
	c := p.term
	if s == sigKill {
		c = p.kill
	}
	if !isDone(c) {
		close(c)
	}
	return nil
}

// told reports whether it was sent any signal.
func (p *fakeProcess) told() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.signals) > 0
}

func (p *fakeProcess) Done() <-chan struct{} { return p.ended }

func (p *fakeProcess) Wait() sandbox.ExitStatus {
	<-p.ended
	return p.status
}

// crash ends a process as if somebody had killed it.
func (p *fakeProcess) crash() { _ = p.Signal(sigKill) }

func (p *fakeProcess) env(name string) string {
	for _, v := range p.spec.Env {
		if k, value, _ := strings.Cut(v, "="); k == name {
			return value
		}
	}
	return ""
}

// serves runs until SIGTERM.
func serves(p *fakeProcess) int {
	select {
	case <-p.term:
	case <-p.kill:
	}
	return 0
}

// exits ends at once.
func exits(code int) program { return func(*fakeProcess) int { return code } }

// A cluster is an API server in memory and a kubelet on a fakeMachine, in a
// bubble of synctest.
type cluster struct {
	t       *testing.T
	client  kubernetes.Interface
	kubelet *Kubelet
	machine *fakeMachine
	stop    func()
}

// story runs f in a bubble. Programs are by image.
func story(t *testing.T, programs map[string]program, f func(c *cluster)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		server, err := api.New(api.Options{RootCA: []byte("root")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		c := newCluster(t, server, dir, programs)
		t.Cleanup(c.stop)
		f(c)
	})
}

func newCluster(t *testing.T, server *api.Server, dir string, programs map[string]program) *cluster {
	client, err := kubernetes.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, client: client, machine: &fakeMachine{dir: dir, programs: programs}}
	c.kubelet = New(Options{
		Client: client, Dir: filepath.Join(dir, "logs"), Claims: filepath.Join(dir, "claims"), RootCA: []byte("root"), Log: slog.New(slog.DiscardHandler),
		Program: func(image string, command, args []string) (Program, error) {
			c.machine.mu.Lock()
			defer c.machine.mu.Unlock()
			if c.machine.programs[image] == nil {
				return Program{}, fmt.Errorf("nothing stands for image %q", image)
			}
			return Program{Argv: append([]string{image}, append(command, args...)...)}, nil
		},
	})
	c.kubelet.boxes = c.machine
	ctx, cancel := context.WithCancel(t.Context())
	factory := informers.NewSharedInformerFactory(client, 0)
	ended := make(chan error, 1)
	if err := c.kubelet.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- c.kubelet.Run(ctx, factory) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	})
	synctest.Wait()
	return c
}

// apply creates an object from YAML.
func (c *cluster) apply(text string) {
	c.t.Helper()
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(text), &kind); err != nil {
		c.t.Fatal(err)
	}
	var err error
	switch kind.Kind {
	case "ConfigMap":
		o := &corev1.ConfigMap{}
		if err = yaml.UnmarshalStrict([]byte(text), o); err == nil {
			if _, err = c.client.CoreV1().ConfigMaps("default").Update(c.t.Context(), o, metav1.UpdateOptions{}); err != nil {
				_, err = c.client.CoreV1().ConfigMaps("default").Create(c.t.Context(), o, metav1.CreateOptions{})
			}
		}
	case "Secret":
		o := &corev1.Secret{}
		if err = yaml.UnmarshalStrict([]byte(text), o); err == nil {
			_, err = c.client.CoreV1().Secrets("default").Create(c.t.Context(), o, metav1.CreateOptions{})
		}
	case "Service":
		o := &corev1.Service{}
		if err = yaml.UnmarshalStrict([]byte(text), o); err == nil {
			_, err = c.client.CoreV1().Services("default").Create(c.t.Context(), o, metav1.CreateOptions{})
		}
	default:
		o := &corev1.Pod{}
		if err = yaml.UnmarshalStrict([]byte(text), o); err == nil {
			_, err = c.client.CoreV1().Pods("default").Create(c.t.Context(), o, metav1.CreateOptions{})
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

// pod applies a pod called web with the given spec (YAML).
func (c *cluster) pod(spec string) {
	c.t.Helper()
	c.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default}\nspec:\n  nodeName: malla\n" + spec)
}

// after lets time pass.
func (c *cluster) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// get returns pod web, or nil if it has gone.
func (c *cluster) get() *corev1.Pod {
	synctest.Wait()
	p, err := c.client.CoreV1().Pods("default").Get(c.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return p
}

// delete deletes pod web; a negative grace is the pod's own.
func (c *cluster) delete(grace int64) {
	c.t.Helper()
	o := metav1.DeleteOptions{}
	if grace >= 0 {
		o.GracePeriodSeconds = &grace
	}
	if err := c.client.CoreV1().Pods("default").Delete(c.t.Context(), "web", o); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

// process returns the newest process of a container.
func (c *cluster) process(container string) *fakeProcess {
	c.t.Helper()
	synctest.Wait()
	c.machine.mu.Lock()
	defer c.machine.mu.Unlock()
	for i := len(c.machine.boxes) - 1; i >= 0; i-- {
		b := c.machine.boxes[i]
		b.mu.Lock()
		for j := len(b.processes) - 1; j >= 0; j-- {
			if b.processes[j].spec.Name == container {
				b.mu.Unlock()
				return b.processes[j]
			}
		}
		b.mu.Unlock()
	}
	c.t.Fatalf("container %s was never started", container)
	return nil
}

// line shows a pod as people see it: phase, then each container's readiness,
// state and restarts.
func line(p *corev1.Pod) string {
	if p == nil {
		return "gone"
	}
	out := string(p.Status.Phase)
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range list {
			out += ", " + s.Name + " "
			switch {
			case s.State.Running != nil && s.Ready:
				out += "ready"
			case s.State.Running != nil:
				out += "running"
			case s.State.Terminated != nil:
				out += fmt.Sprintf("%s(%d)", s.State.Terminated.Reason, s.State.Terminated.ExitCode)
			case s.State.Waiting != nil:
				out += s.State.Waiting.Reason
			}
			if s.RestartCount > 0 {
				out += fmt.Sprintf(" x%d", s.RestartCount)
			}
		}
	}
	return out
}

func (c *cluster) want(want string) {
	c.t.Helper()
	if got := line(c.get()); got != want {
		c.t.Errorf("got  %s\nwant %s", got, want)
	}
}

// events returns the messages of one reason.
func (c *cluster) events(reason string) []corev1.Event {
	list, err := c.client.CoreV1().Events("default").List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var out []corev1.Event
	for _, e := range list.Items {
		if e.Reason == reason {
			out = append(out, e)
		}
	}
	return out
}
