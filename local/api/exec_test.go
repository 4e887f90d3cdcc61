package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	"github.com/mallamesh/malla/local/api"
)

// listen serves s on loopback and returns the administrator's configuration.
func listen(t *testing.T, s *api.Server, token string) *rest.Config {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	return &rest.Config{Host: "http://" + l.Addr().String(), BearerToken: token, QPS: -1}
}

// shell is a PodBackend that understands a few commands.
type shell struct{ gone chan struct{} }

func (shell) Logs(ctx context.Context, ns, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	text := fmt.Sprintf("%s/%s %s follow=%v\n", ns, pod, o.Container, o.Follow)
	if !o.Follow {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, text)
		<-ctx.Done()
		w.CloseWithError(ctx.Err())
	}()
	return r, nil
}

func (s shell) Exec(ctx context.Context, ns, pod string, o *corev1.PodExecOptions, st api.Streams) error {
	switch o.Command[0] {
	case "echo":
		fmt.Fprintln(st.Stdout, strings.Join(o.Command[1:], " "))
		if st.Stderr != nil {
			fmt.Fprintln(st.Stderr, "done")
		}
		return nil
	case "cat":
		_, err := io.Copy(st.Stdout, st.Stdin)
		return err
	case "exit":
		return &api.ExitError{Code: 56}
	case "size":
		size := <-st.Resize
		fmt.Fprintf(st.Stdout, "%dx%d\n", size.Width, size.Height)
		return nil
	case "hang":
		fmt.Fprintln(st.Stdout, "ready")
		<-ctx.Done()
		close(s.gone)
		return ctx.Err()
	}
	return errors.New("no such command: " + o.Command[0])
}

// runPod makes a pod with containers app and istio-proxy.
func runPod(t *testing.T, c kubernetes.Interface) {
	t.Helper()
	_, err := c.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"kubectl.kubernetes.io/default-container": "app"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "x"}, {Name: "istio-proxy", Image: "auto"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

type oneSize struct{ sent bool }

func (s *oneSize) Next() *remotecommand.TerminalSize {
	if s.sent {
		return nil
	}
	s.sent = true
	return &remotecommand.TerminalSize{Width: 120, Height: 40}
}

// Both wire protocols carry the same commands: WebSocket is what kubectl tries
// first, SPDY what it falls back on and what older clients speak.
func TestExec(t *testing.T) {
	s, c := start(t, api.Options{Pods: shell{}, AdminToken: "secret"})
	runPod(t, c)
	cfg := listen(t, s, "secret")
	for name, dial := range map[string]func(o *corev1.PodExecOptions) (remotecommand.Executor, error){
		"websocket": func(o *corev1.PodExecOptions) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(cfg, "GET", execURL(t, cfg, o))
		},
		"spdy": func(o *corev1.PodExecOptions) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(cfg, "POST", execRequest(t, cfg, o).URL())
		},
	} {
		run := func(o corev1.PodExecOptions, stdin string) (string, string, error) {
			o.Stdout = true
			x, err := dial(&o)
			if err != nil {
				t.Fatal(err)
			}
			var out, errOut bytes.Buffer
			so := remotecommand.StreamOptions{Stdout: &out, Tty: o.TTY}
			if o.Stdin {
				so.Stdin = strings.NewReader(stdin)
			}
			if o.Stderr {
				so.Stderr = &errOut
			}
			if o.TTY {
				so.TerminalSizeQueue = &oneSize{}
			}
			err = x.StreamWithContext(within(t), so)
			return out.String(), errOut.String(), err
		}
		t.Run(name, func(t *testing.T) {
			out, errOut, err := run(corev1.PodExecOptions{Command: []string{"echo", "hello", "world"}, Stderr: true}, "")
			if out != "hello world\n" || errOut != "done\n" || err != nil {
				t.Errorf("echo: %q, %q, %v", out, errOut, err)
			}
			long := strings.Repeat("0123456789abcdef\n", 20000)
			if out, _, err := run(corev1.PodExecOptions{Command: []string{"cat"}, Stdin: true}, long); out != long || err != nil {
				t.Errorf("cat returned %d bytes of %d, %v", len(out), len(long), err)
			}
			_, _, err = run(corev1.PodExecOptions{Command: []string{"exit"}}, "")
			var code utilexec.CodeExitError
			if !errors.As(err, &code) || code.Code != 56 {
				t.Errorf("exit: %v, want exit code 56", err)
			}
			if out, _, err := run(corev1.PodExecOptions{Command: []string{"size"}, TTY: true, Stdin: true}, ""); out != "120x40\n" || err != nil {
				t.Errorf("size: %q, %v", out, err)
			}
			if _, _, err := run(corev1.PodExecOptions{Command: []string{"nonsense"}}, ""); err == nil || !strings.Contains(err.Error(), "no such command: nonsense") {
				t.Errorf("nonsense: %v", err)
			}
		})
	}
}

func execRequest(t *testing.T, cfg *rest.Config, o *corev1.PodExecOptions) *rest.Request {
	t.Helper()
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web").SubResource("exec").VersionedParams(o, scheme.ParameterCodec)
}

func execURL(t *testing.T, cfg *rest.Config, o *corev1.PodExecOptions) string {
	return execRequest(t, cfg, o).URL().String()
}

func TestExecEndsWithItsClient(t *testing.T) {
	gone := make(chan struct{})
	s, c := start(t, api.Options{Pods: shell{gone}, AdminToken: "secret"})
	runPod(t, c)
	cfg := listen(t, s, "secret")
	x, err := remotecommand.NewWebSocketExecutor(cfg, "GET", execURL(t, cfg, &corev1.PodExecOptions{Command: []string{"hang"}, Stdout: true}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	r, w := io.Pipe()
	go func() { w.CloseWithError(x.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: w})) }()
	if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-gone:
	case <-within(t).Done():
		t.Fatal("the command goes on after its client has gone")
	}
}

func TestLogs(t *testing.T) {
	_, c := start(t, api.Options{Pods: shell{}})
	runPod(t, c)
	get := func(o *corev1.PodLogOptions) (string, error) {
		r, err := c.CoreV1().Pods("default").GetLogs("web", o).Stream(within(t))
		if err != nil {
			return "", err
		}
		defer r.Close()
		raw, err := io.ReadAll(r)
		return string(raw), err
	}
	if got, err := get(&corev1.PodLogOptions{}); got != "default/web app follow=false\n" || err != nil {
		t.Errorf("without a container: %q, %v; want the default one", got, err)
	}
	if got, err := get(&corev1.PodLogOptions{Container: "istio-proxy"}); got != "default/web istio-proxy follow=false\n" || err != nil {
		t.Errorf("of istio-proxy: %q, %v", got, err)
	}
	if _, err := get(&corev1.PodLogOptions{Container: "x"}); err == nil || !strings.Contains(err.Error(), "container x is not valid for pod web") {
		t.Errorf("of a container that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(within(t))
	r, err := c.CoreV1().Pods("default").GetLogs("web", &corev1.PodLogOptions{Container: "app", Follow: true}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("default/web app follow=true\n"))
	if _, err := io.ReadFull(r, line); err != nil {
		t.Fatal(err) // a followed log must not wait for more
	}
	cancel()
	r.Close()
}
