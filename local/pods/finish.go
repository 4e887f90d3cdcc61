package pods

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/control/inject"
)

const (
	sigTerm = syscall.SIGTERM
	sigKill = syscall.SIGKILL

	// leave is how long a pod goes on serving after it left its services'
	// endpoints, so that nobody who still knows the address is turned away.
	leave = 500 * time.Millisecond
	// sidecarGrace is how long the proxy has after the last application ended.
	sidecarGrace = time.Second
	// lastWords is the least time between SIGTERM and SIGKILL, also where preStop
	// has used up all of the grace (as the kubelet's minimum).
	lastWords = 2 * time.Second
)

// takeDown ends the processes of a pod that is to be deleted: its endpoints leave
// first (they do when the API server marks the pod), then the applications end,
// the proxy last, because applications need it until they have gone.
func (w *worker) takeDown(ctx context.Context, b box) {
	grace, cancel := w.withinGrace(ctx)
	defer cancel()
	proxy := w.proxy()
	if w.anyReady() {
		if proxy != nil {
			w.drain(grace, b)
		}
		sleep(grace, leave)
	}
	var all sync.WaitGroup
	for _, c := range w.all() {
		if c != proxy {
			all.Go(func() { c.terminate(grace, b) })
		}
	}
	all.Wait()
	if proxy != nil {
		last, cancel := context.WithTimeout(ctx, sidecarGrace)
		defer cancel()
		proxy.terminate(last, b)
	}
}

// withinGrace returns a context that ends when the time that the pod's processes
// have is over, also when that time is shortened meanwhile.
func (w *worker) withinGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for {
			changed := w.changes.next()
			w.mu.Lock()
			left := time.Until(w.deadline)
			w.mu.Unlock()
			if left <= 0 {
				return
			}
			t := time.NewTimer(left)
			select {
			case <-t.C:
			case <-changed:
			case <-ctx.Done():
				t.Stop()
				return
			}
			t.Stop()
		}
	}()
	return ctx, cancel
}

func (w *worker) anyReady() bool {
	for _, c := range w.containers {
		if ready, _ := c.readiness(); ready {
			return true
		}
	}
	return false
}

// terminate ends the container's process, if it has one.
func (c *container) terminate(grace context.Context, b box) {
	if p := c.current(); p != nil {
		c.stop(grace, b, p)
	}
}

// stop ends a process: preStop, SIGTERM, and SIGKILL when grace is over. It
// returns when the process has ended.
func (c *container) stop(grace context.Context, b box, p process) {
	if l := c.spec.Lifecycle; l != nil && l.PreStop != nil && grace.Err() == nil {
		hook, cancel := context.WithCancel(grace)
		stop := afterDone(p.Done(), cancel)
		if err := c.hook(hook, b, l.PreStop); err != nil && !isDone(p.Done()) {
			c.w.event(c.w.ctx, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: "+err.Error())
		}
		stop()
		cancel()
	}
	_ = p.Signal(sigTerm)
	least := time.NewTimer(lastWords)
	defer least.Stop()
	select {
	case <-p.Done():
		return
	case <-grace.Done():
	}
	if c != c.w.proxy() {
		select {
		case <-p.Done():
			return
		case <-least.C:
		case <-c.w.ctx.Done(): // the pod's object has gone, or the mesh ends
		}
	}
	_ = p.Signal(sigKill)
	select {
	case <-p.Done():
	case <-b.Done():
	case <-c.w.ctx.Done():
	}
}

// afterDone calls f when done is closed, unless stop is called before.
func afterDone(done <-chan struct{}, f func()) (stop func()) {
	quit := make(chan struct{})
	go func() {
		select {
		case <-done:
			f()
		case <-quit:
		}
	}()
	return func() { close(quit) }
}

// drain asks the proxy to send nobody here any more while it goes on serving.
func (w *worker) drain(ctx context.Context, b box) {
	ctx, cancel := context.WithTimeout(ctx, leave)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: b.Dial}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/drain_listeners?inboundonly&graceful", inject.AdminPort(w.object())), nil)
	if err != nil {
		return
	}
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
	}
}
