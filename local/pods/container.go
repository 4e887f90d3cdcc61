package pods

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/local/sandbox"
)

// A container runs one container of a pod, again and again as its policy says.
type container struct {
	w    *worker
	spec *corev1.Container // its image may have changed since: see image
	name string
	init bool
	log  *logFile

	mu       sync.Mutex // guards what follows
	image    string
	replaced bool // the image changed while a process of the old one ran
	state    corev1.ContainerState
	last     corev1.ContainerState // of the run before
	starts   int
	inARow   streak
	ready    bool
	unready  string // why it is not ready, once that lasts
	started  bool   // the startup probe has passed
	process  process
}

// newContainer takes over what an earlier life of the pod left in its status.
func newContainer(w *worker, spec *corev1.Container, before []corev1.ContainerStatus, init bool) *container {
	c := &container{w: w, spec: spec, name: spec.Name, image: spec.Image, init: init, log: newLogFile(w.logPath(spec.Name))}
	for _, s := range before {
		if s.Name == c.name && s.LastTerminationState.Terminated != nil {
			c.starts, c.last = int(s.RestartCount)+1, s.LastTerminationState
		}
	}
	return c
}

// waiting notes why the container does not run.
func (c *container) waiting(reason, message string) {
	c.mu.Lock()
	if s := c.state.Waiting; s != nil && s.Reason == reason && s.Message == message {
		c.mu.Unlock()
		return
	}
	c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	c.ready = false
	c.mu.Unlock()
	c.w.changed()
}

// keep runs a container until its pod ends, its policy lets it rest, or resting
// is closed; resting is for the sidecar, which has no policy of its own: it runs
// as long as the applications do.
func (c *container) keep(ctx context.Context, b box, resting <-chan struct{}) {
	for {
		began := time.Now()
		code, ok := c.runOnce(ctx, b)
		if !ok || c.w.isEnding() || resting != nil && isDone(resting) {
			return
		}
		if policy := c.w.object().Spec.RestartPolicy; resting == nil && !c.wasReplaced() &&
			(policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && code == 0) {
			return
		}
		if !c.pause(ctx, began, resting) {
			return
		}
	}
}

// runToEnd runs an init container until it succeeds; false means that it never will.
func (c *container) runToEnd(ctx context.Context, b box) bool {
	for {
		began := time.Now()
		code, ok := c.runOnce(ctx, b)
		switch {
		case !ok, c.w.isEnding():
			return false
		case code == 0:
			return true
		case c.w.object().Spec.RestartPolicy == corev1.RestartPolicyNever && !c.wasReplaced():
			return false
		case !c.pause(ctx, began, nil):
			return false
		}
	}
}

// pause waits before the next run; false means there is none.
func (c *container) pause(ctx context.Context, began time.Time, resting <-chan struct{}) bool {
	c.mu.Lock()
	wait := c.inARow.again(began)
	c.mu.Unlock()
	if wait > 0 {
		c.waiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			wait, c.name, c.w.name, c.w.namespace, c.w.object().UID))
		c.w.event(ctx, corev1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)",
			c.name, c.w.name, c.w.namespace, c.w.object().UID))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil && !c.w.isEnding()
	case <-resting: // nil, and so never, for an application
	case <-c.w.ending:
	case <-ctx.Done():
	}
	return false
}

// runOnce runs the container once and returns its exit code; false means that
// the pod ends or that the sandbox has gone.
func (c *container) runOnce(ctx context.Context, b box) (code int, ok bool) {
	spec, ok := c.prepare(ctx, b)
	if !ok || c.w.isEnding() || ctx.Err() != nil {
		return 0, false
	}
	began := time.Now()
	p, err := b.Start(ctx, *spec)
	if err != nil {
		select { // a sandbox that goes fails first, and is known to have gone a little later
		case <-b.Done():
		case <-time.After(50 * time.Millisecond):
		}
		if c.w.isEnding() || ctx.Err() != nil || isDone(b.Done()) {
			return 0, false
		}
		c.mu.Lock()
		c.starts++
		c.mu.Unlock()
		c.w.event(ctx, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		c.ended(began, sandbox.ExitStatus{Code: 128}, "StartError", err.Error())
		return 128, true
	}
	c.begun(p, began)
	running, stop := context.WithCancel(ctx)
	defer stop()
	r := &run{c: c, b: b, p: p, began: began}
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(running) })
	status := p.Wait()
	stop()
	watching.Wait()
	c.log.end()
	if status.PodGone {
		<-b.Done()
		return 0, false // live shows it as lost
	}
	reason := "Completed"
	if status.Code != 0 {
		reason = "Error"
	}
	c.ended(began, status, reason, "")
	return status.Code, true
}

// begun notes that a process runs.
func (c *container) begun(p process, at time.Time) {
	c.mu.Lock()
	c.process = p
	c.starts++
	c.replaced = false
	c.ready, c.unready = false, ""
	c.started = c.spec.StartupProbe == nil
	c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}}
	c.mu.Unlock()
	c.w.changed()
}

// ended notes the end of a run.
func (c *container) ended(began time.Time, s sandbox.ExitStatus, reason, message string) {
	c.mu.Lock()
	c.process = nil
	c.ready, c.started, c.unready = false, false, ""
	c.last = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(s.Code), Signal: int32(s.Signal), Reason: reason, Message: message,
		StartedAt: metav1.NewTime(began), FinishedAt: metav1.Now(), ContainerID: c.id()}}
	c.state = c.last
	c.mu.Unlock()
	c.w.changed()
}

// lost notes that the container went with its sandbox.
func (c *container) lost() {
	c.mu.Lock()
	running := c.state.Running
	c.mu.Unlock()
	c.log.end()
	if running != nil {
		c.ended(running.StartedAt.Time, sandbox.ExitStatus{Code: 128 + int(sigKill), Signal: sigKill}, "Error", "the pod was killed")
	}
}

// id names the run. The caller holds mu.
func (c *container) id() string {
	return fmt.Sprintf("malla://%s/%s/%d", c.w.uid, c.name, c.starts)
}

// setImage takes a new image; a running process of the old one is replaced.
func (c *container) setImage(image string) {
	c.mu.Lock()
	if c.image == image {
		c.mu.Unlock()
		return
	}
	c.image = image
	p := c.process
	c.replaced = p != nil
	c.mu.Unlock()
	b := c.w.sandbox()
	if p == nil || b == nil || c.init {
		return // its next run is of the new one
	}
	go func() {
		c.w.event(c.w.ctx, corev1.EventTypeNormal, "Killing", "Container "+c.name+" definition changed, will be restarted")
		grace, cancel := context.WithTimeout(c.w.ctx, graceOf(c.w.object()))
		defer cancel()
		c.stop(grace, b, p)
	}()
}

func (c *container) wasReplaced() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replaced
}

func (c *container) currentImage() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.image
}

// prepare says what to start. It waits for what is missing: a ConfigMap, or an
// image's program.
func (c *container) prepare(ctx context.Context, b box) (*sandbox.ContainerSpec, bool) {
	for {
		changed := c.w.changes.next()
		s, reason, err := c.containerSpec(b)
		if err == nil {
			return s, true
		}
		c.waiting(reason, err.Error())
		c.w.event(ctx, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		select {
		case <-changed:
		case <-c.w.ending:
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
}

// containerSpec describes the process; reason is the kubelet's for an error.
func (c *container) containerSpec(b box) (s *sandbox.ContainerSpec, reason string, err error) {
	p, image := c.w.object(), c.currentImage()
	env, err := c.w.environment(c.spec)
	if err != nil {
		return nil, "CreateContainerConfigError", err
	}
	program, err := c.w.k.Program(image, expandAll(c.spec.Command, env), expandAll(c.spec.Args, env))
	if err != nil {
		return nil, "ErrImagePull", err
	}
	mounts, err := c.w.mounts(b, c.spec)
	if err != nil {
		return nil, "CreateContainerConfigError", err
	}
	s = &sandbox.ContainerSpec{
		Name: c.name, Argv: program.Argv, Env: append(env.list(), program.Env...), Dir: c.spec.WorkingDir,
		Mounts: withOwn(mounts, program.Mounts), Stdin: c.spec.Stdin, TTY: c.spec.TTY, Log: c.log.next(),
	}
	if s.Dir == "" {
		s.Dir = program.Dir
	}
	// For built-in programs: which image they stand for, and which directories are the manifest's.
	s.Env = append(s.Env, "MALLA_IMAGE="+image, "MALLA_MOUNTS="+mountPaths(c.spec))
	if c.name == inject.Container {
		s.Sidecar = inject.Injected(p) && !inject.Gateway(p)
		if c.w.publishes() {
			s.Env = append(s.Env, broker.EnvSocket+"="+brokerMount)
			s.Mounts = append(s.Mounts, sandbox.Mount{Path: brokerMount, Source: filepath.Join(b.Dir(), brokerSocket)})
		}
	}
	return s, "", nil
}

// withOwn adds a program's own mounts, save where the manifest has one: that is meant.
func withOwn(mounts, own []sandbox.Mount) []sandbox.Mount {
	n := len(mounts)
	for _, m := range own {
		if !slices.ContainsFunc(mounts[:n], func(o sandbox.Mount) bool { return path.Clean(o.Path) == path.Clean(m.Path) }) {
			mounts = append(mounts, m)
		}
	}
	return mounts
}

func mountPaths(c *corev1.Container) string {
	var paths []string
	for _, m := range c.VolumeMounts {
		if m.MountPath != apiMount { // every pod has that
			paths = append(paths, m.MountPath)
		}
	}
	return strings.Join(paths, ":")
}

// setReady notes whether the container takes traffic, and if not, why.
func (c *container) setReady(ready bool, why string) {
	c.mu.Lock()
	changed := c.ready != ready || c.unready != why
	c.ready, c.unready = ready, why
	c.mu.Unlock()
	if changed {
		c.w.changed()
	}
}

// readiness reports whether the container takes traffic, and if not, why.
func (c *container) readiness() (ready bool, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ready:
		return true, ""
	case c.state.Waiting != nil:
		why = c.state.Waiting.Reason
		if m := c.state.Waiting.Message; m != "" {
			why += ": " + m
		}
	case c.state.Terminated != nil:
		why = fmt.Sprintf("ended with exit code %d", c.state.Terminated.ExitCode)
	case c.unready != "":
		why = c.unready
	default:
		why = "started, not ready"
	}
	return false, why
}

func (c *container) current() process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}
