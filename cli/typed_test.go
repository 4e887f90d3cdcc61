package cli

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
		if got := Typed(test.arg0, test.dir); got != test.want {
			t.Errorf("Typed(%q, %q) = %q, want %q", test.arg0, test.dir, got, test.want)
		}
	}
}

func TestHintsAreWhatCanBeTyped(t *testing.T) {
	defer func(before string) { program = before }(program)
	program = "go run ./cmd/malla"
	for _, test := range []struct{ hint, want string }{
		{"malla up DIR", "go run ./cmd/malla up DIR"},
		{"malla --mesh a stop, or give this one a name: malla --mesh NAME up ...", "go run ./cmd/malla --mesh a stop, or give this one a name: go run ./cmd/malla --mesh NAME up ..."},
		{"look into /opt/malla and ./malla x", "look into /opt/malla and ./malla x"},
	} {
		if got := asTyped(test.hint); got != test.want {
			t.Errorf("asTyped(%q) = %q, want %q", test.hint, got, test.want)
		}
	}
}
