//go:build linux

package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is copied of /etc is what is on the list and everybody may read.
func TestCopyEtc(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "etc")
	if err := os.Symlink("certs/a.pem", filepath.Join(from, "link")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		path string
		mode os.FileMode
	}{
		{"passwd", 0o644}, {"passwd-", 0o644}, {"shadow", 0o644}, {"unknown.conf", 0o644}, {"group", 0o600},
		{"ssl/certs/a.pem", 0o644}, {"ssl/private/key.pem", 0o644}, {"ssl/certs/server.key", 0o644}, {"ssl/certs/own.pem", 0o640},
		{"nginx/mime.types", 0o644}, {"nginx/.htpasswd", 0o644}, {"nginx/closed/x", 0o644}, {"nginx/deep/er/x", 0o755}, {"java-21/security/java.security", 0o644},
	} {
		path := filepath.Join(from, f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f.path), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"localtime": "/usr/share/zoneinfo/UTC", "ssl/cert.pem": "/etc/ssl/certs/a.pem"} {
		if err := os.Symlink(target, filepath.Join(from, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(from, "nginx/closed"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := copyEtc(from, to); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			got = append(got, strings.TrimPrefix(path, to+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"java-21/security/java.security", "localtime", "nginx/deep/er/x", "nginx/mime.types", "passwd", "ssl/cert.pem", "ssl/certs/a.pem"}
	if !slices.Equal(got, want) {
		t.Errorf("copied %v, want %v", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(to, "ssl/certs/a.pem")); err != nil || string(b) != "ssl/certs/a.pem" {
		t.Errorf("copied as %q, %v", b, err)
	}
	if err := copyEtc(filepath.Join(from, "none"), filepath.Join(t.TempDir(), "etc")); err != nil {
		t.Errorf("a machine without /etc: %v", err)
	}
}
