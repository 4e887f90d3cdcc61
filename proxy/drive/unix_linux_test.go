package drive

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	named "github.com/mallamesh/malla/base/pipe" // our pipe is a kernel's
)

// A Unix socket takes the place of the file that another proxy has left, with the mode that is wanted.
func TestUnixSocketReplacesItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.sock")
	for range 2 {
		s, err := Bind(named.Addr(path), BindOptions{Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := named.Path(s.Addr()); got != path {
			t.Errorf("bound to %q, want %q", got, path)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		s.Close() // the file stays
	}
	s, err := Bind(named.Addr("@malla-test-"+filepath.Base(t.TempDir())+path[len(path)-20:]), BindOptions{Mode: 0o600})
	if err != nil {
		t.Fatalf("an abstract name: %v", err)
	}
	s.Close()
}
