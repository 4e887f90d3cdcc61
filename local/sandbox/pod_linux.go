package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/mallamesh/malla/local/internal/fdmsg"
	"github.com/mallamesh/malla/local/sandbox/internal/podinit"
	"golang.org/x/sys/unix"
)

// A Pod is one pod's namespaces and init. It is safe for concurrent use.
type Pod struct {
	runtime *Runtime
	spec    PodSpec
	scratch string
	log     *slog.Logger
	conn    *net.UnixConn
	netns   int // its network namespace; -1 if none

	sendMu sync.Mutex // one message at a time

	mu      sync.Mutex // guards what follows
	init    *exec.Cmd
	link    string // the router's side of its veth
	gone    bool
	heard   chan struct{} // closed when all that the init said has been handled; nil before it is ready
	next    uint64
	procs   map[uint64]*Process
	waiting map[uint64]chan answer

	done        chan struct{}
	releaseOnce sync.Once
}

// An answer is the init's to one request.
type answer struct {
	report podinit.Report
	files  []*os.File
}

var errGone = errors.New("the pod has gone")

// Dir is a directory for the caller's volumes, on a tmpfs, in the supervisor's
// view and the init's. It goes with the pod.
func (p *Pod) Dir() string { return filepath.Join(p.scratch, "volumes") }

// Done is closed when the init is gone, and with it every process, and the
// pod's address is unreachable.
func (p *Pod) Done() <-chan struct{} { return p.done }

// Pid is the init's, in the supervisor's PID namespace.
func (p *Pod) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.init == nil {
		return 0
	}
	return p.init.Process.Pid
}

// lastWords bounds how long we listen to an init that has ended. Nobody else has
// its end of the connection, so the end of what it sent is there already.
const lastWords = time.Second

// watch waits for the init's end and cleans up.
func (p *Pod) watch(cmd *exec.Cmd) {
	err := cmd.Wait()
	p.log.Debug("init ended", "state", cmd.ProcessState, "error", err)
	// Its last words are how its containers ended.
	p.mu.Lock()
	heard := p.heard
	p.mu.Unlock()
	if heard != nil {
		select {
		case <-heard:
		case <-time.After(lastWords):
		}
	}
	p.release()
}

// release gives back all that is not the kernel's to clean up. Peers have been
// told by then: the processes' sockets closed, with FIN or RST, while the
// veth still stood.
func (p *Pod) release() {
	p.releaseOnce.Do(func() {
		p.mu.Lock()
		p.gone = true
		link, procs, waiting := p.link, p.procs, p.waiting
		p.procs, p.waiting = nil, nil
		p.mu.Unlock()
		if link != "" {
			if err := p.runtime.net.DetachPod(link); err != nil {
				p.log.Warn("detach from the router", "error", err)
			}
		}
		if p.conn != nil {
			p.conn.Close()
		}
		for _, c := range waiting {
			close(c)
		}
		for _, proc := range procs {
			proc.finish(ExitStatus{Code: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL, PodGone: true})
		}
		p.mu.Lock()
		if p.netns >= 0 {
			unix.Close(p.netns)
			p.netns = -1
		}
		p.mu.Unlock()
		if err := os.RemoveAll(p.scratch); err != nil {
			p.log.Warn("remove directory", "error", err)
		}
		p.runtime.mu.Lock()
		delete(p.runtime.pods, p)
		p.runtime.mu.Unlock()
		close(p.done)
	})
}

// receive hands the init's reports to who waits for them.
func (p *Pod) receive(heard chan struct{}) {
	defer close(heard)
	for {
		var r podinit.Report
		files, err := fdmsg.Read(p.conn, &r)
		if err != nil {
			// The init has gone or speaks nonsense: either way the pod is over.
			p.Kill()
			return
		}
		p.mu.Lock()
		proc, wait := p.procs[r.ID], p.waiting[r.ID]
		if r.Exited {
			delete(p.procs, r.ID)
		} else {
			delete(p.waiting, r.ID)
		}
		p.mu.Unlock()
		switch {
		case r.Exited && proc != nil:
			go proc.finish(ExitStatus{Code: r.Code, Signal: r.Signal})
		case !r.Exited && wait != nil:
			wait <- answer{r, files}
		default:
			for _, f := range files {
				f.Close()
			}
		}
	}
}

// ask sends a request that makes a process, and waits for the answer.
func (p *Pod) ask(ctx context.Context, proc *Process, r podinit.Request, files ...*os.File) (answer, error) {
	c := make(chan answer, 1)
	p.mu.Lock()
	if p.gone {
		p.mu.Unlock()
		return answer{}, errGone
	}
	p.next++
	r.ID, proc.id = p.next, p.next
	p.procs[r.ID], p.waiting[r.ID] = proc, c // before sending: it may end before we look
	p.mu.Unlock()
	err := p.send(r, files...)
	if err == nil {
		select {
		case a, ok := <-c:
			switch {
			case !ok:
				return answer{}, errGone
			case a.report.Error != "":
				err = errors.New(a.report.Error)
			default:
				return a, nil
			}
		case <-ctx.Done():
			// The init may still start it; then it must not stay.
			go func() {
				if a, ok := <-c; ok && a.report.Error == "" {
					_ = proc.Signal(unix.SIGKILL)
					for _, f := range a.files {
						f.Close()
					}
				}
			}()
			return answer{}, ctx.Err()
		}
	}
	p.mu.Lock()
	delete(p.procs, r.ID)
	delete(p.waiting, r.ID)
	p.mu.Unlock()
	return answer{}, err
}

func (p *Pod) send(r podinit.Request, files ...*os.File) error {
	p.sendMu.Lock()
	defer p.sendMu.Unlock()
	if err := fdmsg.Write(p.conn, r, files...); err != nil {
		return fmt.Errorf("talk to init: %w", err)
	}
	return nil
}

// Stop sends SIGTERM to every process that Start and Exec made, waits until
// they have ended, at most for grace (the pod's GracePeriod if 0 or less), and
// then kills the pod. It returns when the pod is gone.
func (p *Pod) Stop(grace time.Duration) error {
	if grace <= 0 {
		grace = p.spec.GracePeriod
	}
	p.mu.Lock()
	procs := make([]*Process, 0, len(p.procs))
	for _, proc := range p.procs {
		procs = append(procs, proc)
	}
	p.mu.Unlock()
	for _, proc := range procs {
		_ = proc.Signal(unix.SIGTERM) // it may have ended
	}
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
wait:
	for _, proc := range procs {
		select {
		case <-proc.ended:
		case <-p.done:
			break wait
		case <-deadline.C:
			break wait
		}
	}
	p.Kill()
	<-p.done
	return nil
}

// Kill ends the whole pod at once. It does not wait; see Done.
func (p *Pod) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.init != nil && !p.gone {
		_ = p.init.Process.Kill()
	}
}

// Dial connects from inside the pod's network namespace: to the pod's own
// addresses and loopback without passing the sidecar, as a kubelet does to a
// pod, and to anything else as the pod's unmarked processes would. network is
// "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6"; the host is an IP address or "localhost".
func (p *Pod) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %q in pod: %w", addr, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return nil, fmt.Errorf("dial %q in pod: host is a name, want an IP address or localhost", addr)
	}
	ns, err := p.namespace()
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	var c net.Conn
	// A socket belongs to the namespace that its maker is in. With a literal
	// address the dialer makes it on the calling goroutine.
	err = onThread(func() error {
		err := unix.Setns(ns, unix.CLONE_NEWNET)
		unix.Close(ns)
		if err != nil {
			return fmt.Errorf("enter the pod's network: %w", err)
		}
		c, err = dialer.DialContext(ctx, network, net.JoinHostPort(host, port))
		return err
	})
	return c, err
}

// namespace returns a descriptor of the pod's network namespace for the caller to close.
func (p *Pod) namespace() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone || p.netns < 0 {
		return -1, errGone
	}
	fd, err := unix.FcntlInt(uintptr(p.netns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("copy descriptor: %w", err)
	}
	return fd, nil
}
