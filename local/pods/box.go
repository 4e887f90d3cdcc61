package pods

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/mallamesh/malla/local/sandbox"
)

// boxes makes sandboxes: a *sandbox.Runtime, or in tests something that needs no
// namespaces.
type boxes interface {
	create(ctx context.Context, s sandbox.PodSpec) (box, error)
}

// A box is one pod's sandbox, as *sandbox.Pod.
type box interface {
	Dir() string
	Start(ctx context.Context, s sandbox.ContainerSpec) (process, error)
	Exec(ctx context.Context, container string, s sandbox.ExecSpec) (process, error)
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
	Kill()
	Done() <-chan struct{}
}

// A process is one container's, or one that was added to it.
type process interface {
	Signal(os.Signal) error
	Wait() sandbox.ExitStatus
	Done() <-chan struct{}
}

// machine makes real sandboxes.
type machine struct{ *sandbox.Runtime }

func (m machine) create(ctx context.Context, s sandbox.PodSpec) (box, error) {
	p, err := m.Create(ctx, s)
	if err != nil {
		return nil, err
	}
	return realBox{p}, nil
}

type realBox struct{ *sandbox.Pod }

func (b realBox) Start(ctx context.Context, s sandbox.ContainerSpec) (process, error) {
	p, err := b.Pod.Start(ctx, s)
	if err != nil {
		return nil, err // not a nil *Process in an interface
	}
	return p, nil
}

func (b realBox) Exec(ctx context.Context, container string, s sandbox.ExecSpec) (process, error) {
	p, err := b.Pod.Exec(ctx, container, s)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// dies is how long a killed sandbox may take to go. The kernel needs
// milliseconds; what takes longer must not hold up everything else.
const dies = 10 * time.Second

// destroy kills a sandbox and waits until it has gone.
func destroy(b box) {
	b.Kill()
	t := time.NewTimer(dies)
	defer t.Stop()
	select {
	case <-b.Done():
	case <-t.C:
	}
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
