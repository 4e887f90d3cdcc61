package pods

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// recount is how often the count of an event that happens again and again is
	// written: a probe that fails each second should not write each second.
	recount = 10 * time.Second
	// differentEvents bounds what is remembered of a pod.
	differentEvents = 32
)

// events are what happened to one pod. The same message again counts up the
// event that is there, as the kubelet does.
type events struct {
	mu   sync.Mutex
	told map[eventKey]*told // guarded by mu
}

type eventKey struct{ typ, reason, message string }

type told struct {
	event   *corev1.Event
	written time.Time
}

// event tells people about the pod. One that is lost is only a message less, so
// errors are not looked at.
func (w *worker) event(ctx context.Context, typ, reason, message string) {
	p := w.object()
	client := w.k.Client.CoreV1().Events(p.Namespace)
	now := metav1.Now()
	key := eventKey{typ, reason, message}
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	if t := w.events.told[key]; t != nil {
		t.event.Count++
		t.event.LastTimestamp = now
		if t.event.Count > 3 && now.Sub(t.written) < recount {
			return
		}
		t.written = now.Time
		if got, err := client.Update(ctx, t.event, metav1.UpdateOptions{}); err == nil {
			t.event = got
			return
		}
		delete(w.events.told, key) // it may have been deleted: begin a new one
	}
	got, err := client.Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: p.Name + ".", Namespace: p.Namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, APIVersion: "v1"},
		Type:           typ, Reason: reason, Message: message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: Node},
	}, metav1.CreateOptions{})
	if err != nil {
		return
	}
	if w.events.told == nil || len(w.events.told) >= differentEvents {
		w.events.told = map[eventKey]*told{}
	}
	w.events.told[key] = &told{got, now.Time}
}
