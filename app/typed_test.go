package app

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCommandsAreToldAsTheyWereTyped(t *testing.T) {
	source := t.TempDir()
	if err := os.MkdirAll(filepath.Join(source, "cmd", "malla"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ arg0, dir, want string }{
		{"malla", source, "malla"},
		{"bin/malla", source, "bin/malla"},
		{"/opt/malla/malla", source, "/opt/malla/malla"},
		{"/tmp/go-build3790/b001/exe/malla", source, "go run ./cmd/malla"},
		{"/tmp/go-build3790/b001/exe/malla", t.TempDir(), "malla"},
		{"/proc/self/exe", source, "malla"},
		{"", source, "malla"},
	} {
		if got := typed(test.arg0, test.dir); got != test.want {
			t.Errorf("typed(%q, %q) = %q, want %q", test.arg0, test.dir, got, test.want)
		}
	}
}
