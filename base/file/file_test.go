package file

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"empty": "", "small": "small", "full": strings.Repeat("x", 100), "large": strings.Repeat("x", 101)} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"link": "small", "device": "/dev/zero", "itself": "itself"} {
		if err := os.Symlink(target, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, want, err string }{
		{"empty", "", ""},
		{"small", "small", ""},
		{"link", "small", ""},
		{"full", strings.Repeat("x", 100), ""},
		{"large", "", "has 101 bytes, at most 100 are read"},
		{"pipe", "", "is not a regular file"}, // nobody writes to it
		{"device", "", "is not a regular file"},
		{".", "", "is not a regular file"},
		{"itself", "", "too many levels of symbolic links"},
		{"missing", "", "no such file"},
	} {
		got, err := Read(at(test.name), 100)
		if string(got) != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v, want %q, %q", test.name, got, err, test.want, test.err)
		}
	}
	if _, err := Read("/proc/self/maps", 100); err == nil { // its size is 0 where there is one
		t.Error("more than 100 bytes are read")
	}
}
