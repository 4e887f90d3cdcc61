package script_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mallamesh/malla/test/script/mesh"
)

// A terminal is what a person sits at: a command runs on its other side.
type terminal struct {
	master *os.File
	screen *lockedBuffer
	cmd    *exec.Cmd
	ended  chan error
}

// sit starts a command on a terminal of its own.
func sit(t *testing.T, m *mesh.Mesh, size unix.Winsize, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	var number int
	control := func(fd uintptr) error {
		if err := unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		if number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err != nil {
			return err
		}
		return unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &size)
	}
	if err := onDescriptor(master, control); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	s := &terminal{master: master, screen: &lockedBuffer{}, cmd: m.Command(ctx, args...), ended: make(chan error, 1)}
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(s.screen, master) }() // ends with EIO when the other side is closed
	go func() { s.ended <- s.cmd.Wait() }()
	return s
}

func onDescriptor(f *os.File, do func(fd uintptr) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	return errors.Join(raw.Control(func(fd uintptr) { failed = do(fd) }), failed)
}

// types sends keys.
func (s *terminal) types(keys string) { _, _ = io.WriteString(s.master, keys) }

// sees waits until the screen holds a text.
func (s *terminal) sees(t *testing.T, text string) {
	t.Helper()
	mesh.Until(t, 10*time.Second, fmt.Sprintf("%q on the screen", text), func() error {
		if got := s.screen.String(); !strings.Contains(got, text) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

// exec -it is a shell as on a machine of one's own: a terminal of the same size,
// which follows, line editing, Ctrl-C for the program and not for malla, and the
// shell's exit code.
func (h httpbin) shell(t *testing.T) {
	s := sit(t, h.Mesh, unix.Winsize{Row: 33, Col: 111}, "exec", "-it", "deploy/sleep", "-c", "sleep", "--", "/bin/sh")
	s.types("test -t 0 && test -t 1 && echo is-a-$((40+2))-terminal; stty size; echo TERM=$TERM\n")
	s.sees(t, "is-a-42-terminal")
	s.sees(t, "33 111")
	if err := onDescriptor(s.master, func(fd uintptr) error {
		return unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 20, Col: 66})
	}); err != nil {
		t.Fatal(err)
	}
	mesh.Until(t, 5*time.Second, "the new size", func() error {
		s.types("stty size\n")
		if got := s.screen.String(); !strings.Contains(got, "20 66") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	// Between a shell's fork and its child's exec, Ctrl-C is heard by nobody: what says that it is there is the child.
	s.types("sh -c 'echo asleep-$((1+1)); exec sleep 100'\n")
	s.sees(t, "asleep-2")
	s.types("\x03")
	mesh.Until(t, 5*time.Second, "the end of sleep by Ctrl-C", func() error {
		s.types("echo after-$((1+1))\n") // again and again: a shell that is interrupted throws away what was typed ahead
		if got := s.screen.String(); !strings.Contains(got, "after-2") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	s.types("exit 7\n")
	<-s.ended
	if code := s.cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want the shell's 7; the screen:\n%s", code, s.screen)
	}
}
