package pods

import (
	"context"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	sigTerm = syscall.SIGTERM
	sigKill = syscall.SIGKILL

	// leave is how long a pod goes on serving after it left its services'
	// endpoints, so that nobody who still knows the address is turned away.
	leave = 500 * time.Millisecond
	// sidecarGrace is how long the proxy has after the last application ended.
	sidecarGrace = time.Second
)

// finish takes the pod down: endpoints first, then the applications, the proxy
// last, because applications need it until they have gone.
func (w *worker) finish(ctx context.Context) error {
	box := w.sandbox()
	if box == nil {
		return nil
	}
	deadline := time.Now().Add(w.grace())
	if d := w.object().DeletionGracePeriodSeconds; d != nil {
		deadline = time.Now().Add(time.Duration(*d) * time.Second)
	}
	sidecar := w.sidecar()
	if w.isEnding() && w.anyReady() && time.Until(deadline) > leave {
		if sidecar >= 0 {
			w.drain(ctx)
		}
		w.changed()
		select {
		case <-time.After(leave):
		case <-box.Done():
		case <-ctx.Done():
		}
	}
	var all sync.WaitGroup
	for i, c := range w.containers {
		if i != sidecar {
			all.Go(func() { c.terminate(ctx, deadline) })
		}
	}
	for _, c := range w.init {
		all.Go(func() { c.terminate(ctx, deadline) })
	}
	all.Wait()
	if sidecar >= 0 {
		w.containers[sidecar].terminate(ctx, time.Now().Add(sidecarGrace))
	}
	return box.Stop(0)
}

func (w *worker) anyReady() bool {
	for _, c := range w.containers {
		c.mu.Lock()
		ready := c.ready
		c.mu.Unlock()
		if ready {
			return true
		}
	}
	return false
}

// terminate ends the container's process: preStop, SIGTERM, and SIGKILL at the deadline.
func (c *container) terminate(ctx context.Context, deadline time.Time) {
	p := c.current()
	if p == nil {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if l := c.spec.Lifecycle; l != nil && l.PreStop != nil {
		if err := c.handle(ctx, c.w.sandbox(), l.PreStop); err != nil {
			c.w.event(context.WithoutCancel(ctx), corev1.EventTypeWarning, "FailedPreStopHook", err.Error())
		}
	}
	_ = p.Signal(sigTerm)
	select {
	case <-p.Done():
	case <-ctx.Done():
		_ = p.Signal(sigKill)
	}
}

// drain asks the proxy to send nobody here any more while it goes on serving.
func (w *worker) drain(ctx context.Context) {
	box := w.sandbox()
	ctx, cancel := context.WithTimeout(ctx, leave)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return box.Dial(ctx, network, addr)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:15000/drain_listeners?inboundonly&graceful", nil)
	if err != nil {
		return
	}
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
}
