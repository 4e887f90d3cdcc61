//go:build linux

// Package script_test says what malla does, by driving the real binary on real
// meshes: the commands people type, what they see, what the kernel sees, and what
// is left afterwards.
//
// A mesh takes seconds to start, so tests that disturb nothing share one. Each
// mesh has a name, a state directory and ports of its own, and is ended whatever
// happens. Waiting is done in package mesh only, by polling with a deadline.
//
// MALLA_BIN names the binary (make test sets it); without it, the suite builds
// one. Where this machine refuses namespaces the tests skip, but never with
// CI=true.
package script_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/mallamesh/malla/test/script/mesh"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envWiretap) != "":
		wiretap()
		return
	case os.Getenv(envCall) != "":
		callServer(os.Getenv(envCall))
		return
	case os.Getenv(envHealth) != "":
		healthServer()
		return
	case os.Getenv(envRelay) != "":
		relayServer(os.Getenv(envRelay))
		return
	}
	code := m.Run()
	mesh.RemoveBinary()
	os.Exit(code)
}

// linux skips a test where meshes cannot run.
func linux(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a real mesh takes too long for -short")
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("this machine refuses namespaces: %v", err)
		}
		t.Skipf("this machine refuses namespaces: %v", err)
	}
}

// words fails the test unless text holds all of them.
func words(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}

// sample reads a file of the module's samples.
func sample(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(mesh.Samples(t, path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write makes a file of a directory of manifests, as a person who saves it.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
