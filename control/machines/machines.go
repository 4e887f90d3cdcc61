package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/mallamesh/malla/api/machine"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
)

// Grace is how long an entry stays without its proxy (Istio's PILOT_WORKLOAD_ENTRY_GRACE_PERIOD).
const Grace = 10 * time.Second

const (
	writeTimeout = 10 * time.Second // of one look at an entry, and what follows from it
	retryAfter   = time.Second
	// sweepEvery is how often the entries of all control planes are looked at.
	sweepEvery = 30 * time.Second
	// forgotten is how old the word of a control plane may be that does not say that a proxy has left: proxies connect
	// anew at least every half hour, give or take a tenth. (Istio's rule.)
	forgotten = 45 * time.Minute
)

// Options of a [Registry].
type Options struct {
	Client   dynamic.Interface
	Snapshot func() *config.Snapshot // the newest configuration
	Name     string                  // of this control plane, among its replicas
	Grace    time.Duration           // 0: Grace
	Log      *slog.Logger
}

// A Registry keeps the entries of the proxies that are connected here.
type Registry struct {
	o    Options
	wake chan struct{} // holds one token: an entry is to be looked at

	mu      sync.Mutex
	members map[model.Name]*member // guarded by mu
}

// A member is an entry with proxies, or one that has lost them just now.
type member struct {
	name  model.Name
	auto  bool // the entry is ours, made of a group
	turn  sync.Mutex
	since time.Time // guarded by turn: of the newest connection

	// guarded by the registry's mu
	proxies int
	due     time.Time // of its next look; zero: there is nothing to do
	left    time.Time // of the last proxy; zero: it has one
	report  *report   // nil: nothing has been said
}

// A report is what a proxy says of its application.
type report struct {
	trouble string // empty: it is well
	at      time.Time
}

// New returns a registry without members.
func New(o Options) *Registry {
	if o.Grace <= 0 {
		o.Grace = Grace
	}
	return &Registry{o: o, wake: make(chan struct{}, 1), members: map[model.Name]*member{}}
}

// A Membership is one connection of a registered workload's proxy.
type Membership struct {
	r *Registry
	m *member
}

// Join registers the workload of a proxy, waits until it is registered, and gives the proxy the labels of the entry.
// A proxy that registers nothing gets nil.
func (r *Registry) Join(p *model.Proxy) (xds.Membership, error) {
	group, entry := p.Metadata[groupMetadata], p.Metadata[entryMetadata]
	if group == "" && entry == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if group == "" {
		return r.joinEntry(p, model.Name{Namespace: p.Namespace, Name: entry})
	}
	o, ok := r.o.Snapshot().Get("WorkloadGroup", p.Namespace, group)
	if !ok {
		return nil, fmt.Errorf("there is no WorkloadGroup %s/%s, by which it wants to be registered", p.Namespace, group)
	}
	if err := permitted(p, o.Value.(*networkingv1.WorkloadGroup).Spec.GetTemplate().GetServiceAccount()); err != nil {
		return nil, fmt.Errorf("WorkloadGroup %s/%s: %w", p.Namespace, group, err)
	}
	if g := &o.Value.(*networkingv1.WorkloadGroup).Spec; g.GetProbe() != nil && !p.Probes && p.Metadata[machine.Metadata] == "true" {
		text, err := g.GetProbe().MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("WorkloadGroup %s/%s: spec.probe: %w", p.Namespace, group, err)
		}
		p.Probes, p.Probe = true, string(text)
	}
	e := entryOf(o, p)
	m := r.enter(model.Name{Namespace: e.Namespace, Name: e.Name}, true)
	ms := &Membership{r, m}
	m.turn.Lock()
	defer m.turn.Unlock()
	if err := r.register(ctx, m, e); err != nil {
		ms.Leave()
		return nil, fmt.Errorf("register it as WorkloadEntry %s/%s: %w", e.Namespace, e.Name, err)
	}
	p.Labels = e.Spec.GetLabels()
	return ms, nil
}

// joinEntry lets a proxy report on an entry that somebody wrote.
func (r *Registry) joinEntry(p *model.Proxy, name model.Name) (xds.Membership, error) {
	o, ok := r.o.Snapshot().Get("WorkloadEntry", name.Namespace, name.Name)
	if !ok {
		return nil, fmt.Errorf("there is no WorkloadEntry %s, which it wants to be", name)
	}
	if err := permitted(p, o.Value.(*networkingv1.WorkloadEntry).Spec.GetServiceAccount()); err != nil {
		return nil, fmt.Errorf("WorkloadEntry %s: %w", name, err)
	}
	return &Membership{r, r.enter(name, false)}, nil
}

func (r *Registry) enter(name model.Name, auto bool) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.members[name]
	if m == nil {
		m = &member{name: name, auto: auto}
		r.members[name] = m
	}
	m.proxies++
	m.left = time.Time{}
	return m
}

// register creates the entry, or says in the one that is there that its proxy is back. The caller has the member's turn.
func (r *Registry) register(ctx context.Context, m *member, e *networkingv1.WorkloadEntry) error {
	client := r.o.Client.Resource(entries()).Namespace(e.Namespace)
	m.since = time.Now()
	said := map[string]any{controllerAnnotation: r.o.Name, sinceAnnotation: m.since.UTC().Format(time.RFC3339Nano)}
	for k, v := range said {
		e.Annotations[k] = v.(string)
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(e)
	if err != nil {
		return err
	}
	delete(tree, "status")
	_, err = client.Create(ctx, &unstructured.Unstructured{Object: tree}, metav1.CreateOptions{})
	if err == nil {
		r.o.Log.Info("registered", "entry", m.name.String(), "group", e.Annotations[groupAnnotation])
	}
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	have, err := client.Get(ctx, e.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if g := have.GetAnnotations()[groupAnnotation]; g != e.Annotations[groupAnnotation] {
		return fmt.Errorf("it is there already, and no entry of group %s", e.Annotations[groupAnnotation])
	}
	said[goneAnnotation] = nil
	if e.Annotations[model.HealthAnnotation] != "" {
		said[model.HealthAnnotation] = "true"
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": said}})
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, e.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// Health takes in what the proxy says of its application: what is wrong with it, nothing if it is well. It does not wait.
func (ms *Membership) Health(trouble string) {
	now := time.Now()
	ms.r.mu.Lock()
	ms.m.report = &report{trouble: trouble, at: now}
	ms.m.due = now
	ms.r.mu.Unlock()
	ms.r.look()
}

// Leave notes that the connection has ended. It does not wait.
func (ms *Membership) Leave() {
	ms.r.mu.Lock()
	ms.m.proxies--
	if ms.m.proxies == 0 {
		ms.m.left = time.Now()
		ms.m.due = ms.m.left
	}
	ms.r.mu.Unlock()
	ms.r.look()
}

func (r *Registry) look() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run writes what there is to say of members, and removes entries, until ctx ends.
func (r *Registry) Run(ctx context.Context) {
	next, sweep := time.NewTimer(0), time.NewTicker(sweepEvery)
	defer next.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-r.wake:
		case <-next.C:
		case <-sweep.C:
			r.sweep(ctx)
		case <-ctx.Done():
			return
		}
		for m := r.take(); m != nil; m = r.take() {
			r.settle(ctx, m)
		}
		next.Reset(r.untilDue())
	}
}

// take returns a member that is due, nil if there is none.
func (r *Registry) take() *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, m := range r.members {
		if !m.due.IsZero() && !m.due.After(now) {
			m.due = time.Time{}
			return m
		}
	}
	return nil
}

func (r *Registry) untilDue() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := sweepEvery
	for _, m := range r.members {
		if !m.due.IsZero() {
			wait = min(wait, max(0, time.Until(m.due)))
		}
	}
	return wait
}

// settle makes the entry of a member what it is to be now.
func (r *Registry) settle(ctx context.Context, m *member) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	m.turn.Lock()
	defer m.turn.Unlock()
	r.mu.Lock()
	left, rep := m.left, m.report
	r.mu.Unlock()
	var err error
	again := time.Time{}
	switch {
	case left.IsZero():
		if rep != nil {
			err = r.write(ctx, m, rep)
		}
	case time.Since(left) < r.o.Grace:
		again = left.Add(r.o.Grace)
		if m.auto {
			err = r.depart(ctx, m, left)
		}
	case m.auto:
		err = r.remove(ctx, m.name, func(e *unstructured.Unstructured) bool {
			return e.GetAnnotations()[controllerAnnotation] == r.o.Name && e.GetAnnotations()[goneAnnotation] != ""
		})
	default:
		err = r.write(ctx, m, nil)
	}
	if err != nil {
		r.o.Log.Warn("an entry is not as it should be; it is tried again", "entry", m.name.String(), "err", err)
		again = time.Now().Add(retryAfter)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !again.IsZero() && (m.due.IsZero() || again.Before(m.due)) {
		m.due = again
	}
	if m.proxies == 0 && m.due.IsZero() {
		delete(r.members, m.name)
	}
}

// depart says in an entry that its proxy has left, if the entry is not of another control plane by now.
func (r *Registry) depart(ctx context.Context, m *member, left time.Time) error {
	client := r.o.Client.Resource(entries()).Namespace(m.name.Namespace)
	have, err := client.Get(ctx, m.name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if a := have.GetAnnotations(); a[controllerAnnotation] != r.o.Name || a[goneAnnotation] != "" {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": have.GetResourceVersion(),
		"annotations": map[string]any{sinceAnnotation: nil, goneAnnotation: left.UTC().Format(time.RFC3339Nano)}}})
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, m.name.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// remove deletes an entry, if it is still what is to be removed.
func (r *Registry) remove(ctx context.Context, name model.Name, still func(*unstructured.Unstructured) bool) error {
	client := r.o.Client.Resource(entries()).Namespace(name.Namespace)
	have, err := client.Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || !still(have) {
		return err
	}
	version := have.GetResourceVersion() // a proxy that is back meanwhile keeps its entry
	err = client.Delete(ctx, name.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}})
	if err == nil {
		r.o.Log.Info("no longer registered", "entry", name.String())
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// write makes the condition Healthy of an entry say what is said, nothing if that is nil.
func (r *Registry) write(ctx context.Context, m *member, rep *report) error {
	client := r.o.Client.Resource(entries()).Namespace(m.name.Namespace)
	have, err := client.Get(ctx, m.name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // somebody removed it
	}
	if err != nil {
		return err
	}
	status, _ := have.Object["status"].(map[string]any)
	next, other := withHealth(status, rep, time.Now())
	if !other {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": have.GetResourceVersion()}, "status": map[string]any{"conditions": next["conditions"]}})
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, m.name.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// sweep removes entries that were left by control planes that are no more.
func (r *Registry) sweep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var errs []error
	for _, o := range r.o.Snapshot().List("WorkloadEntry") {
		name := model.Name{Namespace: o.Namespace, Name: o.Name}
		r.mu.Lock()
		_, ours := r.members[name]
		r.mu.Unlock()
		if !ours && r.overdue(o.Annotations) {
			errs = append(errs, r.remove(ctx, name, func(e *unstructured.Unstructured) bool { return r.overdue(e.GetAnnotations()) }))
		}
	}
	if err := errors.Join(errs...); err != nil {
		r.o.Log.Warn("entries whose proxies are gone could not be removed", "err", err)
	}
}

// overdue reports whether an entry says that its proxy has left long enough ago, or has said nothing for too long.
func (r *Registry) overdue(annotations map[string]string) bool {
	if annotations[groupAnnotation] == "" || annotations[controllerAnnotation] == "" {
		return false // nobody's machine
	}
	if t, err := time.Parse(time.RFC3339Nano, annotations[goneAnnotation]); err == nil {
		return time.Since(t) > r.o.Grace
	}
	t, err := time.Parse(time.RFC3339Nano, annotations[sinceAnnotation])
	return err == nil && time.Since(t) > forgotten
}
