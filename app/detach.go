//go:build linux

package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mallamesh/malla/cli"
)

// errRejected says that the mesh runs, but not all of it.
var errRejected = errors.New("some documents were not applied; the mesh runs without them")

// detach starts the mesh in the background and waits until it is ready.
func detach(ctx context.Context, o cli.UpOptions) error {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // `malla up --detach DIR | head` reads the beginning, and wants the mesh
	in, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer in.Close()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) // our own file may be gone already (go run)
	cmd.Args[0] = os.Args[0]                              // what people type next is told by it
	cmd.Env = append(os.Environ(), envDetached+"=1")
	cmd.ExtraFiles = []*os.File{out}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	out.Close()
	copied := make(chan struct{}, 2)
	pass := func(w io.Writer, r io.Reader) {
		_, _ = io.Copy(w, r)
		_, _ = io.Copy(io.Discard, r) // who reads no more does not stop who writes
		copied <- struct{}{}
	}
	go pass(o.Out, stdout)
	go pass(o.Err, stderr)
	type answer struct {
		wrong int
		err   error
	}
	said := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		var n int
		if err == nil {
			_, err = fmt.Sscanf(line, "ready %d", &n)
		}
		said <- answer{n, err}
	}()
	select {
	case a := <-said:
		<-copied
		<-copied
		if a.err != nil { // it ended without a word: its error is on stderr already
			_ = cmd.Wait()
			return errSilent
		}
		if a.wrong > 0 {
			return cli.Hint(errRejected, "mend the files, which are read again when they are saved; malla %sstop ends the mesh", meshFlag(o.Mesh))
		}
		return nil
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		return nil
	}
}

// errSilent is an error whose text was printed by the process in the background.
var errSilent = errors.New("the mesh did not come up")

// redirect makes the descriptors fds refer to f.
func redirect(f *os.File, fds ...int) error {
	for _, fd := range fds {
		if err := unix.Dup2(int(f.Fd()), fd); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends the mesh that runs under a name, and waits until nothing of it is left.
func Stop(ctx context.Context, o cli.StopOptions) error {
	names := []string{o.Mesh}
	if o.All {
		var err error
		if names, err = meshes(); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := stop(ctx, name, o.Out, !o.All); err != nil {
			return err
		}
	}
	return nil
}

// meshes lists the names that have a state directory.
func meshes() ([]string, error) {
	home, err := Home()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(home)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && meshName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func stop(ctx context.Context, name string, out io.Writer, must bool) error {
	dir, err := dirOf(name)
	if err != nil {
		return err
	}
	if !dir.running() {
		if must {
			return cli.Hint(fmt.Errorf("mesh %q does not run", name), "malla %sup DIR", meshFlag(name))
		}
		return nil
	}
	pid := dir.pid()
	if pid <= 0 {
		return fmt.Errorf("mesh %q: no process number in %s", name, dir.path(filePID))
	}
	all := openTree(pid)
	defer all.close()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	ended := func() bool { return len(all.alive()) == 0 && !dir.running() || ctx.Err() != nil }
	if !poll(10*time.Second, ended) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		if !poll(5*time.Second, ended) {
			return fmt.Errorf("mesh %q: these processes do not end: %v", name, all.alive())
		}
	}
	fmt.Fprintf(out, "mesh %q has ended\n", name)
	return ctx.Err()
}
