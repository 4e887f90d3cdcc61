package status

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"

	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/source/kube"
)

// Bounds on what is written.
const (
	perSecond   = 20
	burst       = 100
	firstRetry  = 100 * time.Millisecond
	lastRetry   = time.Minute
	resyncEvery = 10 * time.Minute // for what others took away, and for events that have run out
	tellEvery   = 10 * time.Second // troubles, at most
)

// Objects is what is known of the objects; a kube.Source does.
type Objects interface {
	Standing(kube.ID) (kube.Standing, bool)
	Standings() map[kube.ID]kube.Standing
	Resource(kind string) (schema.GroupVersionResource, bool)
}

// Options of a [Writer].
type Options struct {
	Objects Objects
	Client  dynamic.Interface
	Events  corev1client.EventsGetter
	Log     *slog.Logger
	Now     func() time.Time // time.Now if nil
	// Controllers are the names of ours in statuses that several controllers write.
	Controllers []string
}

// Wanted is all that is to be said of one object.
type Wanted struct {
	UID        string
	Generation int64 // that the findings are about; another one is written anew
	Findings   []Finding
	// Status is our word in an object's status of Gateway API, without times; nil if the
	// object is not ours. It is not written.
	Status map[string]any
	// Withdrawn is what the object's status said while it was ours. A part of it that stands there still goes;
	// what somebody else has written in its place stays.
	Withdrawn map[string]any
}

// A Writer keeps what objects show equal to what is wrong with them.
type Writer struct {
	o      Options
	queue  workqueue.TypedRateLimitingInterface[kube.ID]
	events events

	mu   sync.Mutex
	want map[kube.ID]Wanted // guarded by mu; nil before the first Set

	told time.Time // when a trouble was last logged; Run's own
}

// New returns a writer that has written nothing.
func New(o Options) *Writer {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Writer{o: o, events: events{client: o.Events}, queue: workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[kube.ID](firstRetry, lastRetry))}
}

// Set says what is wrong with which objects, all of it. It does not wait. The first
// call also looks after what an earlier control plane left.
func (w *Writer) Set(want map[kube.ID]Wanted) {
	if want == nil {
		want = map[kube.ID]Wanted{}
	}
	w.mu.Lock()
	old := w.want
	w.want = want
	w.mu.Unlock()
	for id := range old {
		if _, still := want[id]; !still {
			w.queue.Add(id)
		}
	}
	for id, x := range want {
		if have, ok := old[id]; !ok || !reflect.DeepEqual(have, x) {
			w.queue.Add(id)
		}
	}
	if old == nil {
		w.again()
	}
}

// again queues all objects that say, or should say, something.
func (w *Writer) again() {
	for id, st := range w.o.Objects.Standings() {
		if condition(st.Status) != nil || mentions(st.Status, w.o.Controllers) {
			w.queue.Add(id)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range w.want {
		w.queue.Add(id)
	}
}

// Run writes until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer w.queue.ShutDown()
	wg.Go(func() { w.work(ctx) })
	next := time.NewTimer(0)
	defer next.Stop()
	retry := firstRetry
	for first := true; ; {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		left, err := w.events.load(ctx)
		if err != nil {
			next.Reset(retry)
			retry = min(2*retry, lastRetry)
			continue
		}
		for _, id := range left {
			w.queue.Add(id)
		}
		if !first {
			w.again()
		}
		first, retry = false, firstRetry
		next.Reset(resyncEvery)
	}
}

func (w *Writer) work(ctx context.Context) {
	limit := flowcontrol.NewTokenBucketRateLimiter(perSecond, burst)
	defer limit.Stop()
	for {
		id, end := w.queue.Get()
		if end {
			return
		}
		err := w.write(ctx, id, limit)
		switch {
		case err == nil || ctx.Err() != nil:
			w.queue.Forget(id)
		default:
			w.trouble(id, err)
			w.queue.AddRateLimited(id)
		}
		w.queue.Done(id)
	}
}

// trouble logs that something cannot be written. That an object has a newer version
// than we saw is none: it comes, and is written then.
func (w *Writer) trouble(id kube.ID, err error) {
	if now := w.o.Now(); !apierrors.IsConflict(err) && err != errNotLoaded && now.Sub(w.told) >= tellEvery {
		w.told = now
		w.o.Log.Warn("what is wrong with an object cannot be written to it; it is tried again", "object", id.Kind+" "+id.Namespace+"/"+id.Name, "err", err)
	}
}

// write makes one object show what is wrong with it.
func (w *Writer) write(ctx context.Context, id kube.ID, limit flowcontrol.RateLimiter) error {
	w.mu.Lock()
	want := w.want[id]
	set := w.want != nil
	w.mu.Unlock()
	if !set {
		return nil // nobody knows yet; Set queues it again
	}
	shape := shapeOf(id.Kind)
	if shape != istios {
		if err := w.events.write(ctx, id, want, w.o.Now(), limit); err != nil || shape == none {
			return err
		}
	}
	st, ok := w.o.Objects.Standing(id)
	gvr, served := w.o.Objects.Resource(id.Kind)
	if !ok || !served || want.UID != "" && want.UID != st.UID {
		return nil // gone; another of its name is another object
	}
	next := settle(st.Status, want.Status, w.o.Controllers, w.o.Now())
	withdraw(next, want.Withdrawn)
	if shape == istios {
		next = merge(st.Status, st.Generation, want.Findings, w.o.Now())
	}
	change := patch(st.Version, st.Status, next)
	if change == nil {
		return nil
	}
	if err := limit.Wait(ctx); err != nil {
		return err
	}
	body, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = w.o.Client.Resource(gvr).Namespace(id.Namespace).Patch(ctx, id.Name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "malla-control"}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// A shape is that of a kind's status.
type shape uint8

const (
	none     shape = iota // it is not ours, or there is none
	istios                // findings only
	standard              // that of Gateway API's kinds and of Ingresses, which others may serve
)

func shapeOf(name string) shape {
	switch k, ok := kind.Named(name); {
	case !ok || !k.Has("status"):
		return none
	case strings.HasSuffix(k.Group, ".istio.io"):
		return istios
	case k.Group == kind.GatewayAPI, k.Kind == "Ingress":
		return standard
	}
	return none
}
