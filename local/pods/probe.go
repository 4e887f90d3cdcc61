package pods

import (
	"context"
	"fmt"
	"iter"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mallamesh/malla/control/inject"
)

const (
	// eager is the first interval of a probe that has not succeeded yet: a program
	// that is up in 30 ms should not wait for the next full second. It doubles up to
	// keen, and after youth up to a second or the probe's period.
	eager = 20 * time.Millisecond
	keen  = 100 * time.Millisecond
	youth = 10 * time.Second
	// opens bounds how long a container without a readiness probe has to open the
	// ports it declares before it counts as ready all the same.
	opens = 3 * time.Second
	// patience is how long a container may be about to get ready before anybody is
	// told what its probe says.
	patience = time.Second
	// slow is how long a program may take to open its ports and still be told that it
	// opens them on loopback only.
	slow = 5 * time.Minute
)

// A run is one process of a container, as its probes see it.
type run struct {
	c     *container
	b     box
	p     process
	began time.Time
}

// watch runs the postStart hook and the probes until ctx ends.
func (r *run) watch(ctx context.Context) {
	if l := r.c.spec.Lifecycle; l != nil && l.PostStart != nil {
		if err := r.c.hook(ctx, r.b, l.PostStart); err != nil && ctx.Err() == nil {
			r.event(ctx, corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed: "+err.Error())
			r.kill(ctx, graceOf(r.c.w.object()))
			return
		}
	}
	if r.c.init { // it is done when it ends
		return
	}
	if p := r.c.spec.StartupProbe; p != nil {
		if !r.startup(ctx, p) {
			return
		}
		r.c.mu.Lock()
		r.c.started = true
		r.c.mu.Unlock()
		r.c.w.changed()
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	if p := r.c.spec.LivenessProbe; p != nil {
		beside.Go(func() { r.liveness(ctx, p) })
	}
	if p := r.c.spec.ReadinessProbe; p != nil {
		beside.Go(func() { r.tellLoopback(ctx) })
		r.readiness(ctx, p)
		return
	}
	r.waitForPorts(ctx, r.ports())
	if ctx.Err() == nil {
		r.c.setReady(true, "")
		r.tellLoopback(ctx)
	}
}

// waitForPorts waits until ports are open. Kubernetes would count a container as
// ready before those that it declares are; here that would only mean refused
// connections.
func (r *run) waitForPorts(ctx context.Context, ports iter.Seq[int32]) {
	ctx, cancel := context.WithTimeout(ctx, opens)
	defer cancel()
	for port := range ports {
		for wait := eager / 2; !r.opened(ctx, r.address(), port) && !r.opened(ctx, loopback, port); {
			if !sleep(ctx, wait) {
				return
			}
			wait = min(2*wait, 100*time.Millisecond)
		}
	}
}

const loopback = "127.0.0.1"

// address is the pod's own.
func (r *run) address() string { return r.c.w.addresses()[0].String() }

// ports are those that the container declares for TCP.
func (r *run) ports() iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for _, p := range r.c.spec.Ports {
			if p.Protocol != corev1.ProtocolUDP && p.Protocol != corev1.ProtocolSCTP && !yield(p.ContainerPort) {
				return
			}
		}
	}
}

func (r *run) opened(ctx context.Context, host string, port int32) bool {
	conn, err := r.b.Dial(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// served are the ports at which Services reach the container though it does not
// declare them: declaring is a habit, and nothing depends on it. In a pod of several
// applications nobody knows whose they are.
func (r *run) served() iter.Seq[int32] {
	return func(yield func(int32) bool) {
		w, applications := r.c.w, 0
		for _, c := range w.containers {
			if c.name != inject.Container {
				applications++
			}
		}
		if applications != 1 || r.c.name == inject.Container {
			return
		}
		services, err := w.k.services.Services(w.namespace).List(labels.Everything())
		if err != nil {
			return
		}
		known := slices.Collect(r.ports())
		for _, s := range services {
			if len(s.Spec.Selector) == 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.object().Labels)) {
				continue
			}
			for _, p := range s.Spec.Ports {
				port := p.TargetPort.IntVal // a name means a port that is declared
				if p.TargetPort == (intstr.IntOrString{}) {
					port = p.Port
				}
				if port == 0 || slices.Contains(known, port) || p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP {
					continue
				}
				known = append(known, port)
				if !yield(port) {
					return
				}
			}
		}
	}
}

// tellLoopback tells people about ports that only the pod itself can reach, since
// all that others see of it is a 503. It looks until each of them is open, or for as
// long as a slow program may take to start: ready may be said long before.
func (r *run) tellLoopback(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, port := range slices.AppendSeq(slices.Collect(r.ports()), r.served()) {
		all.Go(func() {
			for wait := eager / 2; time.Since(r.began) < slow; wait = min(2*wait, time.Second) {
				// In this order: one that opens everywhere meanwhile is not accused.
				if r.opened(ctx, loopback, port) {
					if !r.opened(ctx, r.address(), port) && ctx.Err() == nil {
						r.accuse(ctx, port)
					}
					return
				}
				if r.opened(ctx, r.address(), port) || !sleep(ctx, wait) {
					return
				}
			}
		})
	}
}

func (r *run) accuse(ctx context.Context, port int32) {
	message := fmt.Sprintf("Container %s listens on loopback only (port %d): connections to the pod's address are refused. Let it listen on 0.0.0.0", r.c.name, port)
	if r.c.w.proxy() != nil {
		message += ", or let its sidecar connect to loopback (inboundTrafficPolicy: {mode: LOCALHOST})"
	}
	r.event(ctx, corev1.EventTypeWarning, "ListensOnLoopback", message)
}

// startup repeats a startup probe; false means that the container was killed or
// has ended. Only one try in each period counts as a failure: those between are
// our own eagerness.
func (r *run) startup(ctx context.Context, p *corev1.Probe) bool {
	if !sleep(ctx, seconds(p.InitialDelaySeconds)) {
		return false
	}
	wait, counted := eager, time.Now()
	for failures := int32(0); ; {
		err := r.c.try(ctx, r.b, p)
		if err == nil {
			return true
		}
		if r.over(ctx) {
			return false
		}
		if time.Since(counted) >= period(p) {
			counted = time.Now()
			r.unhealthy(ctx, "Startup", err)
			if failures++; failures >= failureThreshold(p) {
				r.restart(ctx, p, "startup")
				return false
			}
		}
		r.notReady("Startup", err)
		if !sleep(ctx, wait) {
			return false
		}
		wait = r.longer(wait, p)
	}
}

// longer is the next interval of a probe that has not succeeded yet.
func (r *run) longer(wait time.Duration, p *corev1.Probe) time.Duration {
	most := keen
	if time.Since(r.began) > youth {
		most = time.Second
	}
	return min(2*wait, most, period(p))
}

// liveness restarts the container when its probe fails often enough.
func (r *run) liveness(ctx context.Context, p *corev1.Probe) {
	if !sleep(ctx, seconds(p.InitialDelaySeconds)) {
		return
	}
	for failures := int32(0); sleep(ctx, period(p)); {
		err := r.c.try(ctx, r.b, p)
		switch {
		case err == nil:
			failures = 0
			continue
		case r.over(ctx):
			return
		}
		r.unhealthy(ctx, "Liveness", err)
		if failures++; failures >= failureThreshold(p) {
			r.restart(ctx, p, "liveness")
			return
		}
	}
}

// readiness follows a readiness probe.
func (r *run) readiness(ctx context.Context, p *corev1.Probe) {
	if !sleep(ctx, seconds(p.InitialDelaySeconds)) {
		return
	}
	wait, ready := eager, false
	var told time.Time
	for successes, failures := int32(0), int32(0); ; {
		err := r.c.try(ctx, r.b, p)
		switch {
		case err == nil:
			failures = 0
			if successes++; successes >= max(p.SuccessThreshold, 1) {
				r.c.setReady(true, "")
				ready = true
			}
		case r.over(ctx):
			return
		default:
			successes = 0
			if failures++; ready && failures >= failureThreshold(p) {
				ready = false
				r.c.setReady(false, "Readiness probe failed: "+err.Error())
			}
			if !ready {
				r.notReady("Readiness", err)
			}
			if time.Since(r.began) >= patience && time.Since(told) >= period(p) {
				told = time.Now()
				r.unhealthy(ctx, "Readiness", err)
			}
		}
		if ready || successes > 0 { // successes in a row count at the probe's own pace
			wait = period(p)
		}
		if !sleep(ctx, wait) {
			return
		}
		wait = r.longer(wait, p)
	}
}

// notReady shows why the container is not ready yet, once that lasts.
func (r *run) notReady(what string, err error) {
	if time.Since(r.began) >= patience {
		r.c.setReady(false, what+" probe failed: "+err.Error())
	}
}

// over reports whether a failure means only that the container has ended.
func (r *run) over(ctx context.Context) bool {
	return ctx.Err() != nil || isDone(r.p.Done()) || isDone(r.b.Done())
}

func (r *run) event(ctx context.Context, typ, reason, message string) {
	r.c.w.event(ctx, typ, reason, message)
}

func (r *run) unhealthy(ctx context.Context, what string, err error) {
	r.event(ctx, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %v", what, err))
}

// restart ends the process, so that its container's policy starts another.
func (r *run) restart(ctx context.Context, p *corev1.Probe, what string) {
	r.event(ctx, corev1.EventTypeNormal, "Killing", fmt.Sprintf("Container %s failed %s probe, will be restarted", r.c.name, what))
	grace := graceOf(r.c.w.object())
	if s := p.TerminationGracePeriodSeconds; s != nil {
		grace = time.Duration(*s) * time.Second
	}
	r.kill(ctx, grace)
}

func (r *run) kill(ctx context.Context, grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace) // the process's end cancels ctx
	defer cancel()
	r.c.stop(ctx, r.b, r.p)
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func period(p *corev1.Probe) time.Duration {
	if p.PeriodSeconds > 0 {
		return seconds(p.PeriodSeconds)
	}
	return 10 * time.Second
}

func failureThreshold(p *corev1.Probe) int32 {
	if p.FailureThreshold > 0 {
		return p.FailureThreshold
	}
	return 3
}
