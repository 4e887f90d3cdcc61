package pods

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/sandbox"
)

// A worker runs one pod, from its first sight until its object has gone.
type worker struct {
	k               *Kubelet
	namespace, name string
	uid             types.UID
	init            []*container
	containers      []*container
	tokens          tokens
	events          events

	ctx     context.Context // ends with the kubelet, and when the object has gone
	cancel  context.CancelFunc
	changes signal        // the object, or something that it may refer to, has changed
	moved   signal        // a container has changed its state
	ending  chan struct{} // closed when the pod is to be deleted
	endOnce sync.Once

	statusWake chan struct{} // one token: the status is to be written
	statusMu   sync.Mutex    // held while the status is written

	mu       sync.Mutex       // guards what follows
	pod      *corev1.Pod      // newest object
	gone     bool             // the object has gone
	deadline time.Time        // of the processes, once the pod is to be deleted
	box      box              // nil while there is none
	ips      []netip.Addr     // of the sandbox
	number   uint16           // of the addresses; 0: none
	seen     time.Time        // when we saw the pod first
	reported corev1.PodStatus // last written
}

func newWorker(ctx context.Context, k *Kubelet, p *corev1.Pod) *worker {
	w := &worker{k: k, namespace: p.Namespace, name: p.Name, uid: p.UID, pod: p, seen: time.Now(),
		ending: make(chan struct{}), statusWake: make(chan struct{}, 1)}
	w.ctx, w.cancel = context.WithCancel(ctx)
	if t := p.Status.StartTime; t != nil {
		w.seen = t.Time
	}
	for i := range p.Spec.InitContainers {
		w.init = append(w.init, newContainer(w, &p.Spec.InitContainers[i], p.Status.InitContainerStatuses, true))
	}
	for i := range p.Spec.Containers {
		w.containers = append(w.containers, newContainer(w, &p.Spec.Containers[i], p.Status.ContainerStatuses, false))
	}
	w.noteDeletion(p)
	return w
}

// update takes a newer version of the object.
func (w *worker) update(p *corev1.Pod) {
	w.mu.Lock()
	old := w.pod
	w.pod = p
	w.mu.Unlock()
	w.noteDeletion(p)
	for i, c := range w.containers {
		if i < len(p.Spec.Containers) {
			c.setImage(p.Spec.Containers[i].Image)
		}
	}
	for i, c := range w.init {
		if i < len(p.Spec.InitContainers) {
			c.setImage(p.Spec.InitContainers[i].Image)
		}
	}
	// Most updates are of the status, by ourselves: they change nothing for us.
	if !equality.Semantic.DeepEqual(old.ObjectMeta.Labels, p.ObjectMeta.Labels) || !equality.Semantic.DeepEqual(old.Annotations, p.Annotations) ||
		old.Generation != p.Generation || (old.DeletionTimestamp == nil) != (p.DeletionTimestamp == nil) ||
		!equality.Semantic.DeepEqual(old.DeletionGracePeriodSeconds, p.DeletionGracePeriodSeconds) {
		w.changes.notify()
	}
}

// noteDeletion begins the end of a pod that is to be deleted. A second delete may
// shorten the time that is left.
func (w *worker) noteDeletion(p *corev1.Pod) {
	if p.DeletionTimestamp == nil {
		return
	}
	left := graceOf(p)
	if s := p.DeletionGracePeriodSeconds; s != nil {
		left = time.Duration(*s) * time.Second
	}
	w.mu.Lock()
	if d := time.Now().Add(left); w.deadline.IsZero() || d.Before(w.deadline) {
		w.deadline = d
	}
	w.mu.Unlock()
	w.endOnce.Do(func() { close(w.ending) })
}

// kill ends the pod without ceremony: its object has gone.
func (w *worker) kill() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.cancel()
}

func (w *worker) object() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

func (w *worker) isEnding() bool { return isDone(w.ending) }

// all are the pod's containers in the order of their start.
func (w *worker) all() []*container {
	return append(append([]*container{}, w.init...), w.containers...)
}

// run is the pod's life.
func (w *worker) run() {
	defer w.cancel()
	var reporting sync.WaitGroup
	if !finished(w.object()) { // else what an earlier run wrote about it stays
		reporting.Go(w.report)
		w.bringUp()
	}
	select { // a pod whose containers have ended stays, for its logs, until it is deleted
	case <-w.ending:
	case <-w.ctx.Done():
	}
	w.retire()
	w.cancel()
	reporting.Wait()
	for _, c := range w.all() {
		c.log.close()
	}
	w.giveAddresses()
	w.mu.Lock()
	gone := w.gone
	w.mu.Unlock()
	if gone {
		w.removeLogs()
	}
}

// bringUp runs the pod in one sandbox after another until it ends for good or is
// to be deleted.
func (w *worker) bringUp() {
	defer w.flushStatus()
	var losses streak
	for !w.isEnding() {
		began := time.Now()
		err := w.live()
		if err == nil || w.isEnding() || w.ctx.Err() != nil {
			return
		}
		wait := losses.again(began)
		w.k.Log.Warn("pod lost its sandbox", "pod", w.namespace+"/"+w.name, "reason", err, "again in", wait)
		w.giveAddresses()
		w.changed()
		select {
		case <-time.After(wait):
		case <-w.ending:
			return
		case <-w.ctx.Done():
			return
		}
	}
}

// retire takes the object out of the API server, and waits until it has gone: it
// may have finalizers.
func (w *worker) retire() {
	if w.ctx.Err() != nil {
		return
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		err := w.k.remove(w.ctx, w.object())
		if err == nil || w.ctx.Err() != nil {
			break
		}
		w.k.Log.Warn("pod not removed, trying again", "pod", w.namespace+"/"+w.name, "reason", err)
		if !sleep(w.ctx, wait) {
			break
		}
	}
	<-w.ctx.Done() // the informer tells
}

var errLost = errors.New("its processes were killed")

// live runs the pod in one sandbox. An error means that it is to be tried again
// with another.
func (w *worker) live() error {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	if err := w.takeAddresses(); err != nil {
		w.trouble(ctx, "FailedCreatePodSandBox", err)
		return err
	}
	w.creating()
	files, changed, err := w.waitForVolumes(ctx)
	if err != nil {
		return err
	}
	b, err := w.k.boxes.create(ctx, w.sandboxSpec())
	if err != nil {
		w.trouble(ctx, "FailedCreatePodSandBox", err)
		return fmt.Errorf("create the sandbox: %w", err)
	}
	var helpers sync.WaitGroup
	defer w.setBox(nil)
	defer helpers.Wait()
	defer destroy(b) // what still runs ends now, and so do those who wait for it
	defer cancel()
	if err := files.write(b.Dir(), nil); err != nil {
		w.trouble(ctx, "FailedMount", err)
		return fmt.Errorf("write volumes: %w", err)
	}
	if w.publishes() {
		if err := w.lend(ctx, b); err != nil {
			w.trouble(ctx, "FailedCreatePodSandBox", err)
			return err
		}
	}
	w.setBox(b)
	helpers.Go(func() { w.refresh(ctx, b, files, changed) })
	ended := make(chan struct{})
	helpers.Go(func() {
		defer close(ended)
		w.work(ctx, b)
	})
	select {
	case <-ended: // for good, or because of one of the others
	case <-w.ending:
	case <-b.Done():
	case <-ctx.Done():
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isDone(b.Done()): // somebody killed it whole
		cancel()
		<-ended
		for _, c := range w.all() {
			c.lost()
		}
		return errLost
	case w.isEnding():
		w.takeDown(ctx, b)
	}
	return nil
}

// work runs the containers; it returns when none of them will run any more.
func (w *worker) work(ctx context.Context, b box) {
	for _, c := range w.init {
		if !c.runToEnd(ctx, b) {
			return
		}
	}
	proxy := w.proxy()
	var applications, sidecar sync.WaitGroup
	resting := make(chan struct{})
	if proxy != nil {
		sidecar.Go(func() { proxy.keep(ctx, b, resting) })
		w.waitForSidecar(ctx, b, proxy)
	}
	for _, c := range w.containers {
		if c != proxy {
			applications.Go(func() { c.keep(ctx, b, nil) })
		}
	}
	applications.Wait()
	close(resting) // nobody is left who needs the proxy
	rested := make(chan struct{})
	go func() {
		sidecar.Wait()
		close(rested)
	}()
	for proxy != nil && !w.isEnding() && ctx.Err() == nil && !isDone(rested) {
		grace, cancel := context.WithTimeout(ctx, sidecarGrace)
		proxy.terminate(grace, b)
		cancel()
		select { // a process that was just being started is seen at the next turn
		case <-rested:
		case <-time.After(100 * time.Millisecond):
		}
	}
	<-rested
}

// waitForSidecar waits until the proxy is ready: an application that starts
// before it finds no network. What the others wait for is shown with them.
func (w *worker) waitForSidecar(ctx context.Context, b box, proxy *container) {
	for {
		moved := w.moved.next()
		ready, why := proxy.readiness()
		if ready {
			return
		}
		for _, c := range w.containers {
			if c != proxy {
				c.waiting("PodInitializing", proxy.name+": "+why)
			}
		}
		select {
		case <-moved:
		case <-w.ending:
			return
		case <-b.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// creating shows the containers as they are before the sandbox is there.
func (w *worker) creating() {
	reason := "ContainerCreating"
	if len(w.init) > 0 {
		reason = "PodInitializing"
	}
	for _, c := range w.all() {
		c.waiting(reason, "")
	}
	w.changed()
}

// trouble tells why there is no sandbox.
func (w *worker) trouble(ctx context.Context, reason string, err error) {
	if ctx.Err() != nil {
		return
	}
	w.event(ctx, corev1.EventTypeWarning, reason, err.Error())
	for _, c := range w.all() {
		c.waiting("ContainerCreating", err.Error())
	}
}

func (w *worker) takeAddresses() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.number != 0 {
		return nil
	}
	var err error
	w.number, w.ips, err = w.k.addrs.take()
	if r := w.k.Router; r != nil { // else a test's
		w.ips = r.Families(w.ips)
	}
	return err
}

func (w *worker) giveAddresses() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.number != 0 {
		w.k.addrs.give(w.number)
		w.number, w.ips = 0, nil
	}
}

func (w *worker) addresses() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ips
}

func (w *worker) setBox(b box) {
	w.mu.Lock()
	w.box = b
	w.mu.Unlock()
	w.changed()
}

func (w *worker) sandbox() box {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.box
}

// proxy is the sidecar, or nil if there is none that goes with an application.
func (w *worker) proxy() *container {
	p := w.object()
	if len(w.containers) < 2 || !inject.Injected(p) || inject.Gateway(p) {
		return nil
	}
	for _, c := range w.containers {
		if c.name == inject.Container {
			return c
		}
	}
	return nil
}

// sandboxSpec describes the sandbox.
func (w *worker) sandboxSpec() sandbox.PodSpec {
	p := w.object()
	s := sandbox.PodSpec{
		Name: p.Name, Namespace: p.Namespace, UID: string(p.UID), IPs: w.addresses(), Hostname: p.Spec.Hostname,
		Search:      []string{p.Namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"},
		GracePeriod: graceOf(p), HostAliases: map[netip.Addr][]string{},
	}
	for _, a := range p.Spec.HostAliases {
		if ip, err := netip.ParseAddr(a.IP); err == nil {
			s.HostAliases[ip] = append(s.HostAliases[ip], a.Hostnames...)
		}
	}
	if inject.Injected(p) && !inject.Gateway(p) {
		s.Capture = captureOf(p.Annotations, inject.CaptureOf(p))
	}
	return s
}

// graceOf is how long the processes of a pod have to end by themselves.
func graceOf(p *corev1.Pod) time.Duration {
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}
