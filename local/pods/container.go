package pods

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/sandbox"
)

// container runs one container of a pod, again and again as its policy says.
type container struct {
	w    *worker
	spec *corev1.Container
	name string
	init bool
	log  *logFile

	readyOnce chan struct{} // closed when it is ready for the first time
	once      sync.Once

	mu       sync.Mutex // guards what follows
	state    corev1.ContainerState
	last     corev1.ContainerState // of the run before
	restarts int
	inARow   int // restarts without a calm run between
	ready    bool
	started  bool // the startup probe has passed
	process  *sandbox.Process
}

func newContainer(w *worker, spec *corev1.Container, init bool) *container {
	reason := "ContainerCreating"
	if len(w.pod.Spec.InitContainers) > 0 {
		reason = "PodInitializing"
	}
	return &container{w: w, spec: spec, name: spec.Name, init: init, readyOnce: make(chan struct{}),
		log:   newLogFile(w.logPath(spec.Name)),
		state: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
}

// waiting notes why the container does not run.
func (c *container) waiting(reason, message string) {
	c.mu.Lock()
	c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	c.ready = false
	c.mu.Unlock()
	c.w.changed()
}

// keep runs a container until its pod ends or its policy lets it rest.
func (c *container) keep(ctx context.Context) {
	for {
		code, err := c.once1(ctx)
		if err != nil || c.w.isEnding() || ctx.Err() != nil {
			return
		}
		switch c.w.object().Spec.RestartPolicy {
		case corev1.RestartPolicyNever:
			return
		case corev1.RestartPolicyOnFailure:
			if code == 0 {
				return
			}
		}
		if !c.pause(ctx) {
			return
		}
	}
}

// runToEnd runs an init container until it succeeds; an error means it never will.
func (c *container) runToEnd(ctx context.Context) error {
	for {
		code, err := c.once1(ctx)
		if err != nil {
			return err
		}
		if code == 0 {
			return nil
		}
		if c.w.object().Spec.RestartPolicy == corev1.RestartPolicyNever {
			return fmt.Errorf("init container %s ended with status %d", c.name, code)
		}
		if !c.pause(ctx) {
			return errEnding
		}
	}
}

// pause waits before the next run; false means there is none.
func (c *container) pause(ctx context.Context) bool {
	c.mu.Lock()
	c.restarts++
	c.inARow++
	wait := backOff(c.inARow)
	if wait > 0 {
		c.state = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff",
			Message: fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", wait, c.name, c.w.name)}}
	}
	c.mu.Unlock()
	c.w.changed()
	select {
	case <-time.After(wait):
		return true
	case <-c.w.ending:
	case <-ctx.Done():
	}
	return false
}

// once1 runs the container once and returns its exit code. An error means that
// the pod ends or that the sandbox has gone.
func (c *container) once1(ctx context.Context) (int, error) {
	spec, err := c.prepare(ctx)
	if err != nil {
		return 0, err
	}
	box := c.w.sandbox()
	if box == nil {
		return 0, errEnding
	}
	p, err := box.Start(ctx, *spec)
	if err != nil {
		if c.w.isEnding() || ctx.Err() != nil {
			return 0, errEnding
		}
		c.ended(time.Now(), sandbox.ExitStatus{Code: 128}, "StartError", err.Error())
		c.w.event(ctx, corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		return 128, nil
	}
	began := time.Now()
	c.mu.Lock()
	c.process = p
	c.started = c.spec.StartupProbe == nil
	c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(began)}}
	c.mu.Unlock()
	c.w.changed()
	running, stop := context.WithCancel(ctx)
	probing := make(chan struct{})
	go func() {
		defer close(probing)
		if !c.init {
			c.probe(running, box)
		}
	}()
	if c.spec.Lifecycle != nil && c.spec.Lifecycle.PostStart != nil {
		if err := c.handle(running, box, c.spec.Lifecycle.PostStart); err != nil {
			c.w.event(ctx, corev1.EventTypeWarning, "FailedPostStartHook", err.Error())
			_ = p.Signal(sigKill)
		}
	}
	status := p.Wait()
	stop()
	<-probing
	if status.PodGone {
		return 0, errors.New("the sandbox has gone")
	}
	if time.Since(began) >= calm {
		c.mu.Lock()
		c.inARow = 0
		c.mu.Unlock()
	}
	reason := "Completed"
	if status.Code != 0 {
		reason = "Error"
	}
	c.ended(began, status, reason, "")
	return status.Code, nil
}

// ended notes the end of a run.
func (c *container) ended(began time.Time, s sandbox.ExitStatus, reason, message string) {
	c.mu.Lock()
	c.process = nil
	c.ready, c.started = false, false
	c.last = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(s.Code), Signal: int32(s.Signal), Reason: reason, Message: message,
		StartedAt: metav1.NewTime(began), FinishedAt: metav1.Now()}}
	c.state = c.last
	c.mu.Unlock()
	c.w.changed()
}

// lost notes that the container went with its sandbox.
func (c *container) lost() {
	c.mu.Lock()
	began := time.Now()
	if c.state.Running != nil {
		began = c.state.Running.StartedAt.Time
	}
	c.restarts++
	c.inARow++
	c.mu.Unlock()
	c.ended(began, sandbox.ExitStatus{Code: 137, Signal: sigKill}, "Error", "the pod was killed")
}

// prepare says what to start, waiting until an image's program is known.
func (c *container) prepare(ctx context.Context) (*sandbox.ContainerSpec, error) {
	p := c.w.object()
	env, err := c.w.environment(c.spec)
	for err != nil { // a ConfigMap or Secret that is not there yet
		c.waiting("CreateContainerConfigError", err.Error())
		if !c.w.waitForChange(ctx) {
			return nil, errEnding
		}
		env, err = c.w.environment(c.spec)
	}
	command, args := expandAll(c.spec.Command, env), expandAll(c.spec.Args, env)
	program, err := c.w.k.Program(c.spec.Image, command, args)
	if err != nil {
		c.waiting("ErrImagePull", err.Error())
		c.w.event(ctx, corev1.EventTypeWarning, "Failed", err.Error())
		select { // nothing on this machine will change what an image means
		case <-c.w.ending:
		case <-ctx.Done():
		}
		return nil, errEnding
	}
	mounts, err := c.w.mounts(c.spec)
	if err != nil {
		c.waiting("CreateContainerConfigError", err.Error())
		select {
		case <-c.w.ending:
		case <-ctx.Done():
		}
		return nil, errEnding
	}
	s := &sandbox.ContainerSpec{
		Name: c.name, Argv: program.Argv, Env: append(env.list(), program.Env...), Dir: c.spec.WorkingDir,
		Mounts: append(mounts, program.Mounts...), Stdin: c.spec.Stdin, TTY: c.spec.TTY, Log: c.log.next(),
	}
	if s.Dir == "" {
		s.Dir = program.Dir
	}
	// For built-in programs: which image they stand for, and which directories are the manifest's.
	s.Env = append(s.Env, "MALLA_IMAGE="+c.spec.Image, "MALLA_MOUNTS="+mountPaths(c.spec))
	if c.name == inject.Container {
		s.Sidecar = inject.Injected(p) && !inject.Gateway(p)
		if inject.Gateway(p) && c.w.k.Broker != "" {
			s.Env = append(s.Env, "MALLA_BROKER=/run/malla/broker.sock")
			s.Mounts = append(s.Mounts, sandbox.Mount{Path: "/run/malla/broker.sock", Source: c.w.k.Broker})
		}
	}
	return s, nil
}

func mountPaths(c *corev1.Container) string {
	var paths []string
	for _, m := range c.VolumeMounts {
		paths = append(paths, m.MountPath)
	}
	return strings.Join(paths, ":")
}

// setReady notes whether the container takes traffic.
func (c *container) setReady(ready bool) {
	c.mu.Lock()
	changed := c.ready != ready
	c.ready = ready
	c.mu.Unlock()
	if ready {
		c.once.Do(func() { close(c.readyOnce) })
	}
	if changed {
		c.w.changed()
	}
}

func (c *container) current() *sandbox.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

func (w *worker) isEnding() bool {
	select {
	case <-w.ending:
		return true
	default:
		return false
	}
}

func (w *worker) sandbox() *sandbox.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.box
}

// waitForChange waits until some object of the namespace changes; false means
// that the pod ends.
func (w *worker) waitForChange(ctx context.Context) bool {
	select {
	case <-w.poked:
		return true
	case <-time.After(2 * time.Second): // a change that came between two looks
		return true
	case <-w.ending:
	case <-ctx.Done():
	}
	return false
}
