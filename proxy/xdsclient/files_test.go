package xdsclient

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

// sheet is a consumer that tells what it gets.
type sheet struct {
	sources []Source
	updates chan string
}

func (s *sheet) Sources() []Source { return s.sources }

func (s *sheet) Apply(u Update) []Refusal {
	text := u.Version
	for _, r := range u.Resources {
		text += " +" + r.Name
	}
	for _, n := range u.Removed {
		text += " -" + n
	}
	s.updates <- text
	return nil
}

func (s *sheet) Failed(Source)  {}
func (s *sheet) Foreign(Source) {}

func (s *sheet) Reread(_, name string) error {
	s.updates <- "again " + name
	return nil
}

// A file that a resource refers to is not of resources: when it is replaced, the resource is read again, once for
// all of its files that a move in their directory is about.
func TestData(t *testing.T) {
	dir := t.TempDir()
	move(t, filepath.Join(dir, "cert.pem"), "x")
	one := Source{Type: SecretType, Place: Place{Path: filepath.Join(dir, "cert.pem"), Directory: dir}, Names: []string{"secret"}, Data: true}
	two := one
	two.Place.Path = filepath.Join(dir, "key.pem")
	path := filepath.Join(t.TempDir(), "cds.json") // tells when the subscription stands
	move(t, path, clusters("1", "a"))
	s := &sheet{sources: []Source{one, two, {Type: ClusterType, Place: Place{Path: path}, All: true}}, updates: make(chan string, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = NewFiles(s, parseJSON, slog.New(slog.DiscardHandler)).Run(ctx) }()
	if got := <-s.updates; got != "1 +a" {
		t.Errorf("at first %q", got)
	}
	if err := os.Symlink("there", filepath.Join(dir, "..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if got := <-s.updates; got != "again secret" {
		t.Errorf("after a move %q", got)
	}
	move(t, path, clusters("2", "a"))
	if got := <-s.updates; got != "2 +a" {
		t.Errorf("after that %q, want nothing more about the secret", got)
	}
}

func parseJSON(_ string, text []byte) (*discovery.DiscoveryResponse, error) {
	r := &discovery.DiscoveryResponse{}
	return r, protojson.Unmarshal(text, r)
}

func clusters(version string, names ...string) string {
	var all []string
	for _, n := range names {
		all = append(all, `{"@type": "`+ClusterType+`", "name": "`+n+`"}`)
	}
	return `{"version_info": "` + version + `", "resources": [` + strings.Join(all, ",") + `]}`
}

// move puts a file in place as configuration is to be put in place.
func move(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A file is read at the start and whenever a new one is moved over it; a file that
// does not parse changes nothing; what a file of whole types leaves out has gone.
func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cds.json")
	move(t, path, clusters("1", "a", "b"))
	s := &sheet{sources: []Source{{Type: ClusterType, Place: Place{Path: path}, All: true}}, updates: make(chan string, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- NewFiles(s, parseJSON, slog.New(slog.DiscardHandler)).Run(ctx) }()
	for i, want := range []string{"1 +a +b", "2 +b -a", "4 +c -b"} {
		if got := <-s.updates; got != want {
			t.Errorf("update %q, want %q", got, want)
		}
		switch i {
		case 0:
			move(t, path, clusters("2", "b"))
		case 1:
			move(t, path, "nonsense")
			odd(t, path)
			move(t, path, clusters("4", "c"))
		}
	}
	cancel()
	<-done
}

// odd puts what has no end in a file's place: a pipe that nobody writes to, and a device.
func odd(t *testing.T, path string) {
	t.Helper()
	for _, make := range []func(string) error{
		func(path string) error { return syscall.Mkfifo(path, 0o600) },
		func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		if err := errors.Join(make(path+".odd"), os.Rename(path+".odd", path)); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that does not parse is told of, so that somebody may count it.
func TestUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cds.json")
	move(t, path, "nonsense")
	s := &sheet{sources: []Source{{Type: ClusterType, Place: Place{Path: path}, All: true}}, updates: make(chan string, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- NewFiles(tattler{s}, parseJSON, slog.New(slog.DiscardHandler)).Run(ctx) }()
	if got := <-s.updates; got != "unreadable "+path {
		t.Errorf("update %q, want that %s is unreadable", got, path)
	}
	cancel()
	<-done
}

// tattler is a sheet that tells of failures, too.
type tattler struct{ *sheet }

func (s tattler) Failed(source Source)  { s.updates <- "unreadable " + source.Place.Path }
func (s tattler) Foreign(source Source) { s.updates <- "foreign " + source.Place.Path }

// A link that is moved in the watched directory counts as a change of the file
// behind it, as where Kubernetes mounts a ConfigMap.
func TestWatchedDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, v := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o755); err != nil {
			t.Fatal(err)
		}
		move(t, filepath.Join(dir, v, "cds.json"), clusters(v, "a"+v, "unwanted"))
	}
	point := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	point("1")
	s := &sheet{sources: []Source{{Type: ClusterType, Place: Place{Path: filepath.Join(dir, "..data", "cds.json"), Directory: dir}, Names: []string{"a1", "a2"}}}, updates: make(chan string, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = NewFiles(s, parseJSON, slog.New(slog.DiscardHandler)).Run(ctx) }()
	if got := <-s.updates; got != "1 +a1" {
		t.Errorf("at the start %q", got)
	}
	point("2")
	for got := range s.updates { // making the link is an event, too
		if got == "2 +a2" {
			break
		}
	}
}

// What is not moved there is not read: it is written just now.
func TestFilesInPlace(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "cds.json"), filepath.Join(dir, "other")
	move(t, path, clusters("1", "a"))
	s := &sheet{sources: []Source{{Type: ClusterType, Place: Place{Path: path}, All: true}}, updates: make(chan string, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = NewFiles(s, parseJSON, slog.New(slog.DiscardHandler)).Run(ctx) }()
	for i, change := range []func(text string) error{
		func(string) error { return nil },
		func(text string) error { return os.WriteFile(path, []byte(text), 0o600) },
		func(text string) error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o600)) },
		func(text string) error {
			return errors.Join(os.Remove(path), os.WriteFile(other, []byte(text), 0o600), os.Link(other, path))
		},
	} {
		if err := change(clusters("none", "b")); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			move(t, path, clusters("1", "a"))
		}
		if got := <-s.updates; got != "1 +a" {
			t.Errorf("after change %d: found %q, want what was moved there, and nothing before", i, got)
		}
	}
}
