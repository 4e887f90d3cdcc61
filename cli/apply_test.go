package cli

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/tools/clientcmd"
)

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"

// A shell's <(command) is a pipe, and its text is read as a file's.
func TestApplyReadsPipes(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	go func() { _ = os.WriteFile(pipe, []byte(configMap), 0o600) }()
	docs, errs := documents(within(t), resource.FilenameOptions{Filenames: []string{pipe}}, nil)
	if len(docs) != 1 || len(errs) > 0 {
		t.Errorf("%d documents and %v, want 1 and no error", len(docs), errs)
	}
}

// What never ends is not read for ever.
func TestApplyReadsABoundedText(t *testing.T) {
	for _, name := range []string{"-", "/dev/zero"} {
		_, errs := documents(within(t), resource.FilenameOptions{Filenames: []string{name}}, endless{})
		if len(errs) != 1 || !strings.Contains(errs[0].Msg, "more than") {
			t.Errorf("%s: %v, want one error that it is too long", name, errs)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A server that is not well for a moment is asked again; one that refuses is believed.
func TestApplyAsksAServerAgain(t *testing.T) {
	defer func(was time.Duration) { retryAfter = was }(retryAfter)
	retryAfter = 0
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.URL.Path == "/forbidden" {
			w.WriteHeader(http.StatusForbidden)
		} else if asked < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(configMap))
	}))
	defer s.Close()
	docs, errs := documents(within(t), resource.FilenameOptions{Filenames: []string{s.URL}}, nil)
	if len(docs) != 1 || len(errs) > 0 || asked != 2 {
		t.Errorf("%d documents and %v after %d requests, want 1 and no error after 2", len(docs), errs, asked)
	}
	asked = 0
	_, errs = documents(within(t), resource.FilenameOptions{Filenames: []string{s.URL + "/forbidden"}}, nil)
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "403 Forbidden") || asked != 1 {
		t.Errorf("%v after %d requests, want 403 after 1", errs, asked)
	}
}

// A cluster has kinds and fields that are not in our tables, so it judges what it is sent; that a text cannot be read is told before.
func TestAClusterJudgesForItself(t *testing.T) {
	m := newMesh(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"claim.yaml": "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: db}\n",
		"twice.yaml": configMap + "data: {a: b}\ndata: {c: d}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := clientcmd.WriteToFile(*m.local.kubeconfig(), filepath.Join(dir, "kubeconfig")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ flags, file, want string }{
		{"", "claim.yaml", "DIR/claim.yaml:2: PersistentVolumeClaim db: kind: "},
		{" --kubeconfig=DIR/kubeconfig", "claim.yaml", `no matches for kind "PersistentVolumeClaim"`},
		{" --kubeconfig=DIR/kubeconfig", "twice.yaml", `DIR/twice.yaml:5: field "data" is written twice`},
	} {
		if got := m.run(t, dir, "apply -f DIR/"+test.file+test.flags); !strings.Contains(got, test.want) {
			t.Errorf("apply -f %s%s: %s, want %q", test.file, test.flags, got, test.want)
		}
	}
}
