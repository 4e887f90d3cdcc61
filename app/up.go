//go:build linux

package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mallamesh/malla/base/hangup"
	"github.com/mallamesh/malla/cli"
	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/local/sandbox"
)

// startLimit is how long the supervisor may take to answer.
const startLimit = 30 * time.Second

// Up runs a mesh on this machine until ctx ends or, detached, until it is ready.
func Up(ctx context.Context, o cli.UpOptions) error {
	if o.Detach && os.Getenv(envDetached) != "" {
		hangup.Ignore()
	} else { // with its terminal it ends as with Ctrl-C
		var stop context.CancelFunc
		ctx, stop = hangup.Context(ctx)
		defer stop()
	}
	if o.Detach && os.Getenv(envDetached) == "" {
		return detach(ctx, o)
	}
	Settle()
	u, err := newUp(o)
	if err != nil {
		return err
	}
	defer u.close()
	err = u.run(ctx)
	if err == nil && !o.Detach { // whoever typed Ctrl-C sees that it was heard, and when it is over
		fmt.Fprintf(o.Out, "mesh %q has ended\n", o.Mesh)
	}
	return err
}

// up is the parent of a mesh.
type up struct {
	o       cli.UpOptions
	dir     meshDir
	images  []imageRule
	publish map[uint16]netip.AddrPort
	typed   string // how this program is called here
	began   time.Time
	release func() // of the lock
	token   string
	tell    atomic.Bool // changes are told, once the mesh is up

	mu        sync.Mutex
	published map[string]broker.Published // by host address; guarded by mu
}

func newUp(o cli.UpOptions) (*up, error) {
	u := &up{o: o, began: time.Now(), published: map[string]broker.Published{}}
	cwd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	u.typed = cli.Typed(os.Args[0], cwd)
	for i, p := range o.Paths {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("%s: %w", p, errors.Unwrap(err)) // without the name of the system call
		}
		o.Paths[i] = filepath.Clean(p)
	}
	if u.images, err = parseImages(o.Images); err != nil {
		return nil, err
	}
	if u.publish, err = publishMap(o.Publish); err != nil {
		return nil, err
	}
	if u.dir, err = dirOf(o.Mesh); err != nil {
		return nil, err
	}
	if err = u.dir.make(); err != nil {
		return nil, err
	}
	if u.release, err = u.dir.lock(); err != nil {
		if errors.Is(err, errRunning) {
			return nil, cli.Hint(fmt.Errorf("mesh %q is running already", o.Mesh), "malla %sstop, or give this one a name: malla --mesh NAME up ...", meshFlag(o.Mesh))
		}
		return nil, err
	}
	if err = writeFile(u.dir.path(filePID), []byte(strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, err
	}
	u.token, err = u.dir.token()
	return u, err
}

func meshFlag(name string) string {
	if name == "default" {
		return ""
	}
	return "--mesh " + name + " "
}

// publishMap reads --publish HOST:PORT, and leaves the API's port to chance.
func publishMap(values []string) (map[uint16]netip.AddrPort, error) {
	out := map[uint16]netip.AddrPort{apiPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)}
	for _, v := range values {
		host, port, _ := strings.Cut(v, ":")
		h, err := strconv.ParseUint(host, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("--publish %q: want HOST:PORT, two port numbers", v)
		}
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("--publish %q: want HOST:PORT, two port numbers", v)
		}
		out[uint16(p)] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(h))
	}
	return out, nil
}

// close removes what only a running mesh has.
func (u *up) close() {
	for _, name := range []string{filePID, fileAPI, fileBroker, fileEndpoint, filePorts} {
		_ = os.Remove(u.dir.path(name))
	}
	if u.release != nil {
		u.release()
	}
}

// run starts the supervisor and stays until ctx or the supervisor ends.
func (u *up) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := u.serveBroker(ctx, cancel); err != nil {
		return err
	}
	// The supervisor outlives ctx a little, to end in order.
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	cmd, ready, err := u.startSupervisor(life)
	if err != nil {
		return u.explain(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	select {
	case err := <-ready:
		if err != nil {
			<-gone
			return u.explain(err)
		}
	case err := <-gone:
		return u.explain(fmt.Errorf("the supervisor ended: %w", orNil(err)))
	case <-time.After(startLimit):
		return fmt.Errorf("the supervisor does not answer after %s; its log is %s", startLimit, u.dir.path(fileLog))
	case <-ctx.Done():
		return lost(ctx)
	}
	failed := make(chan error, 1)
	go func() { failed <- u.follow(ctx) }()
	select {
	case <-ctx.Done():
		err = lost(ctx)
	case err = <-failed:
	case err = <-gone:
		return fmt.Errorf("the supervisor ended: %w; its log is %s", orNil(err), u.dir.path(fileLog))
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-gone:
	case <-time.After(3 * time.Second):
		kill()
		<-gone
	}
	return err
}

// lost is why a context has ended, nil if somebody asked for that.
func lost(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func orNil(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

// explain adds to a failed start what the system refuses.
func (u *up) explain(err error) error {
	findings := sandbox.Probe()
	if len(findings) == 0 {
		return fmt.Errorf("%w; the log is %s", err, u.dir.path(fileLog))
	}
	var lines []string
	for _, f := range findings {
		lines = append(lines, f.String())
	}
	return fmt.Errorf("this system refuses what a mesh on one machine needs:\n  %s", strings.Join(lines, "\n  "))
}

// serveBroker gives the mesh sockets of this network until ctx ends; fail is told if
// that ends before.
func (u *up) serveBroker(ctx context.Context, fail func(error)) error {
	path := u.dir.path(fileBroker)
	_ = os.Remove(path)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen for the mesh: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	go func() {
		err := broker.Serve(ctx, l, broker.Options{Publish: u.publish, OnPublish: u.onPublish})
		if ctx.Err() == nil { // a mesh without a way out is none
			fail(fmt.Errorf("the mesh has lost this machine's network: %w", orNil(err)))
		}
	}()
	return nil
}

func (u *up) onPublish(p broker.Published) {
	if p.Port == apiPort && p.Owner == "malla/api" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	change := "is offered at " + p.Host.String()
	if p.Wanted.IsValid() && p.Wanted != p.Host {
		change += fmt.Sprintf(", since %d is in use", p.Wanted.Port())
	}
	if p.Closed {
		change = "is no longer offered at " + p.Host.String()
		delete(u.published, p.Host.String())
	} else {
		u.published[p.Host.String()] = p
	}
	u.notePorts()
	if u.tell.Load() && !ownPort(p) {
		fmt.Fprintf(u.o.Out, "%s port %d of %s %s\n", time.Now().Format(time.TimeOnly), p.Port, p.Owner, change)
	}
}

// notePorts writes the open ports down, for `malla urls`. u.mu is held.
func (u *up) notePorts() {
	text, err := json.Marshal(slices.SortedFunc(maps.Values(u.published), byInterest))
	if err == nil {
		err = writeFile(u.dir.path(filePorts), text)
	}
	if err != nil {
		fmt.Fprintf(u.o.Err, "malla: note the open ports: %v\n", err)
	}
}

// startSupervisor starts the supervisor; ready receives nil when it answers.
func (u *up) startSupervisor(ctx context.Context) (*exec.Cmd, <-chan error, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, nil, err
	}
	options, err := json.Marshal(superviseOptions{Dir: string(u.dir), Token: u.token, Inject: u.o.Inject, Images: u.images, Cwd: cwd})
	if err != nil {
		return nil, nil, err
	}
	in, out, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	readyIn, readyOut, err := os.Pipe()
	if err != nil {
		out.Close()
		return nil, nil, err
	}
	defer readyOut.Close()
	go func() {
		_, _ = out.Write(options) // more than a pipe holds must not block us
		out.Close()
	}()
	cmd, err := sandbox.StartSupervisor(ctx, []string{"malla", "local", "supervise"}, []*os.File{in, readyOut})
	if err != nil {
		readyIn.Close()
		return nil, nil, err
	}
	ready := make(chan error, 1)
	go func() {
		defer readyIn.Close()
		line, err := bufio.NewReader(readyIn).ReadString('\n')
		switch {
		case err != nil:
			ready <- fmt.Errorf("the mesh did not start: %s", u.lastLog())
		case strings.HasPrefix(line, "ready "):
			ready <- nil
		default:
			ready <- errors.New(strings.TrimSpace(line))
		}
	}()
	return cmd, ready, nil
}

// lastLog returns the last line of the supervisor's log.
func (u *up) lastLog() string {
	text, err := os.ReadFile(u.dir.path(fileLog))
	if err != nil {
		return "it left no log"
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
