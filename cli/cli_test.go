package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/local/api"
)

// A story is a txtar file: a sentence, files, and "session": command lines with
// what they print; DIR and URL are where the files are, "< DIR/file" is the standard input. Ages, versions and random suffixes are written as AGE and so on.
// go test ./cli -update rewrites sessions.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories: ", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) { story(t, f) })
	}
}

func story(t *testing.T, path string) {
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := newMesh(t)
	dir := t.TempDir()
	files := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer files.Close()
	m.files = files.URL
	for i := range a.Files {
		f := &a.Files[i]
		if f.Name != "session" {
			path := filepath.Join(dir, f.Name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var got strings.Builder
		for line := range strings.Lines(string(f.Data)) {
			if words, ok := strings.CutPrefix(line, "$ malla "); ok {
				got.WriteString(line)
				got.WriteString(m.run(t, dir, strings.TrimSpace(words)))
			}
		}
		if *update {
			f.Data = []byte(got.String())
			continue
		}
		if got.String() != string(f.Data) {
			t.Errorf("got:\n%s\nwant:\n%s", got.String(), f.Data)
		}
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A mesh is an API server and a command line that finds it.
type mesh struct {
	local *Local
	api   *api.Server
	files string // where a web server offers the story's files
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	// A client sends its token over TLS only.
	cert := httptest.NewTLSServer(nil)
	cert.Close()
	s, err := api.New(api.Options{AdminToken: "secret", TLS: &tls.Config{Certificates: cert.TLS.Certificates}, Pods: pods{}, Admit: []api.Admitter{api.AdmitFunc(notices)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	m := &mesh{&Local{Mesh: "default", Server: "https://" + l.Addr().String(), Token: "secret",
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate().Raw})}, s, "http://no.files"}
	m.fill(t)
	return m
}

// notices tells of resources, as validation does.
func notices(_ context.Context, r *api.Request) ([]string, error) {
	if r.Object != nil && r.Kind.Kind == "Deployment" && strings.Contains(fmt.Sprint(r.Object.Object), "cpu") {
		return []string{"spec.template.spec.containers[0].resources: has no effect here"}, nil
	}
	return nil, nil
}

// fill adds what the stories look at and cannot type: a running pod, a refused document.
func (m *mesh) fill(t *testing.T) {
	c, err := kubernetes.NewForConfig(m.api.Config())
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-6d4b75cb6d-hpw2x", Labels: map[string]string{"app": "web"},
		Annotations: map[string]string{"kubectl.kubernetes.io/default-container": "web"}},
		Spec: corev1.PodSpec{NodeName: "malla", Containers: []corev1.Container{{Name: "web", Image: "x:1"}, {Name: "istio-proxy", Image: "auto"}}}}
	if p, err = c.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	running := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.5", PodIPs: []corev1.PodIP{{IP: "10.244.0.5"}},
		ContainerStatuses: []corev1.ContainerStatus{running("web"), running("istio-proxy")}}
	if _, err := c.CoreV1().Pods("default").UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := m.api.SetRejections([]api.Rejection{
		{Group: "networking.istio.io", Kind: "VirtualService", Namespace: "default", Name: "bad", Source: "rules.yaml:7", Message: "spec.hosts: none, want at least one"},
		{Kind: "Gizmo", Name: "x", Source: "rules.yaml:20", Message: "kind: unknown kind \"Gizmo\""},
	}); err != nil {
		t.Fatal(err)
	}
}

var age = regexp.MustCompile(`\b\d+s\b`)
var volume = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)
var uid = regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)
var stamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d \+0000`)

func (m *mesh) run(t *testing.T, dir, line string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	find := func(name string) (*Local, error) {
		if name == "default" {
			return m.local, nil
		}
		return nil, nil
	}
	var stdin io.Reader = strings.NewReader("typed\n")
	line, from, redirected := strings.Cut(strings.NewReplacer("DIR", dir, "URL", m.files).Replace(line), " < ")
	if redirected {
		f, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		stdin = f
	}
	args := strings.Fields(line)
	code := run(within(t), args, Roles{Local: find}, genericiooptions.IOStreams{In: stdin, Out: &out, ErrOut: &errOut}, func(string) string { return "" })
	text := out.String()
	for line := range strings.Lines(errOut.String()) {
		text += "! " + line
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if code != 0 {
		text += fmt.Sprintf("[exit %d]\n", code)
	}
	text = strings.NewReplacer(dir, "DIR", m.files, "URL").Replace(text)
	text = uid.ReplaceAllString(text, "UID")
	text = volume.ReplaceAllString(text, "kube-api-access-xxxxx")
	text = stamp.ReplaceAllString(text, "TIME")
	return age.ReplaceAllString(text, "0s")
}

// pods answers logs and exec.
type pods struct{}

func (pods) Logs(ctx context.Context, ns, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(fmt.Sprintf("log of %s in %s\n", o.Container, pod))), nil
}

func (pods) Exec(ctx context.Context, ns, pod string, o *corev1.PodExecOptions, s api.Streams) error {
	switch o.Command[0] {
	case "cat":
		_, err := io.Copy(s.Stdout, s.Stdin)
		return err
	case "false":
		return &api.ExitError{Code: 56}
	}
	fmt.Fprintln(s.Stdout, o.Container, strings.Join(o.Command, " "))
	return nil
}
