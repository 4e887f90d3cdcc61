package pods

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		if err := broker.Lend(ctx, l, w.k.Broker, w.namespace+"/"+workload, w.last); err != nil {
			w.k.Log.Warn("a gateway can open no more ports", "pod", w.namespace+"/"+w.name, "reason", err)
		}
	}()
	return nil
}

// last reports whether the pod ends and no other comes in its place: nobody is to wait for one at its
// ports then.
func (w *worker) last() bool {
	p := w.object()
	if p.DeletionTimestamp == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	owner := metav1.GetControllerOf(p)
	for owner != nil {
		o, replicas, err := w.controller(ctx, owner)
		switch {
		case apierrors.IsNotFound(err):
			return true
		case err != nil:
			return false
		case o.GetDeletionTimestamp() != nil || o.GetUID() != owner.UID:
			return true
		}
		above := metav1.GetControllerOf(o)
		if above == nil { // a ReplicaSet without pods may have an heir, but not a Deployment
			return replicas != nil && *replicas == 0
		}
		owner = above
	}
	return true
}

// controller returns what owns pods, and how many it wants, nil if it does not say.
func (w *worker) controller(ctx context.Context, ref *metav1.OwnerReference) (metav1.Object, *int32, error) {
	apps := w.k.Client.AppsV1()
	switch ref.Kind {
	case "Deployment":
		o, err := apps.Deployments(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		return o, o.Spec.Replicas, err
	case "ReplicaSet":
		o, err := apps.ReplicaSets(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		return o, o.Spec.Replicas, err
	case "StatefulSet":
		o, err := apps.StatefulSets(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		return o, o.Spec.Replicas, err
	case "DaemonSet":
		o, err := apps.DaemonSets(w.namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		return o, nil, err
	}
	return nil, nil, fmt.Errorf("owner of kind %s, want one that keeps pods", ref.Kind)
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
