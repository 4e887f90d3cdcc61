package pods

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/broker"
)

// Where a gateway finds the socket by which it opens ports of the machine: in its
// pod's directory (no volume has such a name), and in its container.
const (
	brokerSocket = ".broker"
	brokerMount  = "/run/malla/broker.sock"
)

// publishes reports whether the pod opens ports of the machine.
func (w *worker) publishes() bool { return w.k.Broker != nil && inject.Gateway(w.object()) }

// lend serves the pod's socket until ctx ends. Whose ports these are is the
// workload's that the pod belongs to, not what the gateway says: replicas share
// ports and nobody else does.
func (w *worker) lend(ctx context.Context, b box) error {
	l, err := listenIn(b.Dir(), brokerSocket)
	if err != nil {
		return fmt.Errorf("listen for the gateway: %w", err)
	}
	workload, _ := inject.Workload(w.object())
	go func() {
		if err := broker.Lend(ctx, l, w.k.Broker, w.namespace+"/"+workload); err != nil {
			w.k.Log.Warn("a gateway can open no more ports", "pod", w.namespace+"/"+w.name, "reason", err)
		}
	}()
	return nil
}

// listenIn makes a Unix socket in a directory whose path may be longer than those
// of sockets.
func listenIn(dir, name string) (*net.UnixListener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	path := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it goes with the directory
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}
