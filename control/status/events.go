package status

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/source/kube"
)

// label marks the events that this package makes, and takes away.
const label = "malla.dev/finding"

var errNotLoaded = errors.New("the events of an earlier run are not known yet")

// events are the findings of objects without a status of Istio's shape. The name of
// an event follows from what it says, so that a control plane that starts anew, or
// stands beside another, makes no second one.
type events struct {
	client corev1client.EventsGetter

	mu    sync.Mutex
	known map[kube.ID]map[string]bool // names of those that are there; nil before load
}

// load learns which events there are, of earlier runs too, and returns the objects
// that they are about.
func (e *events) load(ctx context.Context) ([]kube.ID, error) {
	list, err := e.client.Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: label + "=true"})
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = map[kube.ID]map[string]bool{}
	var ids []kube.ID
	for _, x := range list.Items {
		id := kube.ID{Kind: x.InvolvedObject.Kind, Namespace: x.InvolvedObject.Namespace, Name: x.InvolvedObject.Name}
		if e.known[id] == nil {
			e.known[id] = map[string]bool{}
			ids = append(ids, id)
		}
		e.known[id][x.Name] = true
	}
	return ids, nil
}

// write makes the events of one object those that are wanted.
func (e *events) write(ctx context.Context, id kube.ID, want Wanted, now time.Time, limit flowcontrol.RateLimiter) error {
	e.mu.Lock()
	have := e.known[id]
	loaded := e.known != nil
	e.mu.Unlock()
	if !loaded {
		return errNotLoaded
	}
	client := e.client.Events(namespaceOf(id))
	keep := map[string]bool{}
	for _, f := range want.Findings[:min(len(want.Findings), most)] {
		x := event(id, want.UID, f, now)
		if f.Pending && !have[x.Name] {
			continue
		}
		keep[x.Name] = true
		if have[x.Name] {
			continue
		}
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		if _, err := client.Create(ctx, x, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		e.note(id, x.Name, true)
	}
	for name := range have {
		if keep[name] {
			continue
		}
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		if err := client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		e.note(id, name, false)
	}
	return nil
}

// note makes a new set each time: write reads the old one without the lock.
func (e *events) note(id kube.ID, name string, there bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := map[string]bool{}
	for n := range e.known[id] {
		next[n] = true
	}
	if there {
		next[name] = true
	} else {
		delete(next, name)
	}
	e.known[id] = next
}

func event(id kube.ID, uid string, f Finding, now time.Time) *corev1.Event {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s", id.Kind, uid, f.Reason, f.Text)
	at := metav1.NewTime(now)
	version, kindName := "", id.Kind
	if k, ok := kind.Named(id.Kind); ok {
		version, kindName = k.GVK().GroupVersion().String(), k.Kind
	}
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%016x", id.Name, h.Sum64()), Namespace: namespaceOf(id), Labels: map[string]string{label: "true"}},
		InvolvedObject: corev1.ObjectReference{APIVersion: version, Kind: kindName, Namespace: id.Namespace, Name: id.Name, UID: types.UID(uid)},
		Reason:         f.Reason, Message: f.Text, Type: corev1.EventTypeWarning,
		Source: corev1.EventSource{Component: "malla"}, ReportingController: "malla.dev/control-plane",
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
	}
}

// namespaceOf is where the events of an object are: those of objects without a
// namespace are in default, as Kubernetes'.
func namespaceOf(id kube.ID) string {
	if id.Namespace == "" {
		return metav1.NamespaceDefault
	}
	return id.Namespace
}
