package pods

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/node/capture"
)

// worker runs one pod, from its first sight to its removal.
type worker struct {
	k               *Kubelet
	namespace, name string
	ips             []netip.Addr
	number          uint16 // of its addresses

	poked   chan struct{} // one token: look at the objects again
	ending  chan struct{} // closed when the pod is to be deleted
	endOnce sync.Once
	cancel  context.CancelFunc // ends everything at once

	mu         sync.Mutex
	pod        *corev1.Pod // newest object; guarded by mu
	box        *sandbox.Pod
	init       []*container // guarded by mu after the start
	containers []*container
	started    time.Time
	reported   corev1.PodStatus // last written
	statusWake chan struct{}
}

func newWorker(k *Kubelet, p *corev1.Pod) *worker {
	w := &worker{k: k, namespace: p.Namespace, name: p.Name, pod: p, poked: make(chan struct{}, 1), ending: make(chan struct{}),
		statusWake: make(chan struct{}, 1), cancel: func() {}}
	for i := range p.Spec.InitContainers {
		w.init = append(w.init, newContainer(w, &p.Spec.InitContainers[i], true))
	}
	for i := range p.Spec.Containers {
		w.containers = append(w.containers, newContainer(w, &p.Spec.Containers[i], false))
	}
	if p.DeletionTimestamp != nil {
		w.end()
	}
	return w
}

// update takes a newer version of the object.
func (w *worker) update(p *corev1.Pod) {
	w.mu.Lock()
	w.pod = p
	w.mu.Unlock()
	if p.DeletionTimestamp != nil {
		w.end()
	}
	w.poke()
}

func (w *worker) poke() {
	select {
	case w.poked <- struct{}{}:
	default:
	}
}

func (w *worker) end() { w.endOnce.Do(func() { close(w.ending) }) }

// kill ends the pod without ceremony.
func (w *worker) kill() {
	w.end()
	w.mu.Lock()
	box := w.box
	w.cancel()
	w.mu.Unlock()
	if box != nil {
		box.Kill()
	}
}

func (w *worker) object() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// run is the pod's life.
func (w *worker) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	w.mu.Lock()
	w.cancel = cancel
	w.mu.Unlock()
	defer cancel()
	reporting := make(chan struct{})
	go func() {
		defer close(reporting)
		w.report(ctx)
	}()
	err := w.live(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, errEnding) {
		w.k.Log.Warn("pod ended", "pod", w.namespace+"/"+w.name, "reason", err)
	}
	if ctx.Err() == nil {
		w.flushStatus(ctx)
	}
	cancel()
	<-reporting
	w.mu.Lock()
	box := w.box
	w.box = nil
	w.mu.Unlock()
	if box != nil {
		box.Kill()
	}
	if w.number != 0 {
		w.k.addrs.give(w.number)
	}
	if w.object().DeletionTimestamp != nil {
		again, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		if err := w.k.remove(again, w.object()); err != nil {
			w.k.Log.Warn("pod not removed", "pod", w.namespace+"/"+w.name, "reason", err)
		}
		w.removeLogs()
	}
}

// errEnding says that the pod was deleted while something waited.
var errEnding = errors.New("the pod is deleted")

// live brings the pod up, keeps it, and takes it down.
func (w *worker) live(ctx context.Context) error {
	var err error
	if w.number, w.ips, err = w.k.addrs.take(); err != nil {
		return err
	}
	w.changed()
	v, err := w.waitForVolumes(ctx)
	if err != nil {
		return err
	}
	box, err := w.k.Runtime.Create(ctx, w.spec())
	if err != nil {
		w.event(ctx, corev1.EventTypeWarning, "FailedCreatePodSandBox", err.Error())
		return fmt.Errorf("create the sandbox: %w", err)
	}
	w.mu.Lock()
	w.box, w.started = box, time.Now()
	w.mu.Unlock()
	if err := v.write(box.Dir()); err != nil {
		return fmt.Errorf("write volumes: %w", err)
	}
	w.changed()
	go w.refresh(ctx, v)

	for _, c := range w.init {
		if err := c.runToEnd(ctx); err != nil {
			return w.finish(ctx)
		}
	}
	var all sync.WaitGroup
	start := func(c *container) { all.Go(func() { c.keep(ctx) }) }
	rest := slices.Clone(w.containers)
	if i := w.sidecar(); i >= 0 && len(rest) > 1 {
		// The proxy first: an application that starts before it finds no network.
		start(rest[i])
		select {
		case <-rest[i].readyOnce:
		case <-w.ending:
		case <-box.Done():
		case <-ctx.Done():
		}
		rest = slices.Delete(rest, i, i+1)
	}
	for _, c := range rest {
		start(c)
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	select {
	case <-w.ending:
	case <-ended:
	case <-box.Done(): // somebody killed it whole: start it anew, in a new sandbox
		for _, c := range w.containers {
			c.lost()
		}
		w.flushStatus(ctx)
		return w.again(ctx, &all)
	case <-ctx.Done():
		return ctx.Err()
	}
	err = w.finish(ctx)
	<-w.endingOrDone(ctx)
	return err
}

// again brings a pod up after its sandbox died.
func (w *worker) again(ctx context.Context, old *sync.WaitGroup) error {
	old.Wait()
	w.mu.Lock()
	w.box = nil
	w.mu.Unlock()
	w.k.addrs.give(w.number)
	w.number = 0
	select {
	case <-w.ending:
		return errEnding
	case <-time.After(backOff(w.containers[0].restarts)):
	case <-ctx.Done():
		return ctx.Err()
	}
	return w.live(ctx)
}

// endingOrDone is closed when the pod is to be deleted; a pod whose containers
// have all ended stays, as Succeeded or Failed, until then.
func (w *worker) endingOrDone(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-w.ending:
		case <-ctx.Done():
		}
	}()
	return done
}

// sidecar returns the index of the proxy among the containers, -1 without one.
func (w *worker) sidecar() int {
	if !inject.Injected(w.object()) || inject.Gateway(w.object()) {
		return -1
	}
	return slices.IndexFunc(w.containers, func(c *container) bool { return c.name == inject.Container })
}

// spec describes the sandbox.
func (w *worker) spec() sandbox.PodSpec {
	p := w.object()
	s := sandbox.PodSpec{
		Name: p.Name, Namespace: p.Namespace, UID: string(p.UID), IPs: w.ips, Hostname: p.Spec.Hostname,
		Search:      []string{p.Namespace + ".svc.cluster.local", "svc.cluster.local", "cluster.local"},
		GracePeriod: w.grace(), HostAliases: map[netip.Addr][]string{},
	}
	for _, a := range p.Spec.HostAliases {
		if ip, err := netip.ParseAddr(a.IP); err == nil {
			s.HostAliases[ip] = a.Hostnames
		}
	}
	if w.sidecar() >= 0 {
		s.Capture = captureOf(p.Annotations)
	}
	return s
}

func (w *worker) grace() time.Duration {
	if s := w.object().Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

// event tells people about the pod.
func (w *worker) event(ctx context.Context, typ, reason, message string) {
	p := w.object()
	now := metav1.Now()
	_, _ = w.k.Client.CoreV1().Events(p.Namespace).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: p.Name + ".", Namespace: p.Namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, APIVersion: "v1"},
		Type:           typ, Reason: reason, Message: message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: Node},
	}, metav1.CreateOptions{}) // an event that is lost is only a message less
}

// captureOf reads Istio's annotations about which traffic the sidecar takes.
func captureOf(annotations map[string]string) *capture.Config {
	c := &capture.Config{}
	const prefix = "traffic.sidecar.istio.io/"
	if ports := portList(annotations[prefix+"excludeInboundPorts"]); len(ports) > 0 {
		c.ExcludeInbound = append(slices.Clone(capture.DefaultExcludeInbound), ports...)
	}
	if v, ok := annotations[prefix+"includeInboundPorts"]; ok && v != "*" {
		c.IncludeInbound = portList(v)
	}
	c.ExcludeOutbound = portList(annotations[prefix+"excludeOutboundPorts"])
	c.IncludeOutbound = portList(annotations[prefix+"includeOutboundPorts"])
	c.ExcludeOutboundCIDRs = prefixList(annotations[prefix+"excludeOutboundIPRanges"])
	if v, ok := annotations[prefix+"includeOutboundIPRanges"]; ok && v != "*" {
		c.IncludeOutboundCIDRs = prefixList(v)
		c.NoOutbound = len(c.IncludeOutboundCIDRs) == 0
	}
	return c
}

func portList(s string) []uint16 {
	var out []uint16
	for _, f := range strings.Split(s, ",") {
		var n uint16
		if _, err := fmt.Sscanf(strings.TrimSpace(f), "%d", &n); err == nil && n != 0 {
			out = append(out, n)
		}
	}
	return out
}

func prefixList(s string) []netip.Prefix {
	var out []netip.Prefix
	for _, f := range strings.Split(s, ",") {
		if p, err := netip.ParsePrefix(strings.TrimSpace(f)); err == nil {
			out = append(out, p)
		} else if a, err := netip.ParseAddr(strings.TrimSpace(f)); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}
