package store

import (
	"context"
	"sync"
)

// Behind is how many changes may wait for a watcher that does not read, if they have no more than
// BehindBytes together.
const (
	Behind      = 4096
	BehindBytes = 64 << 20
)

// A Watcher sees the changes of one resource in order. It has one reader.
type Watcher struct {
	namespace string // "" is all

	mu      sync.Mutex // guards the fields below; taken inside the store's lock
	queue   []Event
	bytes   int     // of the objects in queue
	spare   []Event // the reader's last batch, reused
	expired bool
	wake    chan struct{} // holds one token when queue or expired changed
	stop    func()
}

// Watch returns a watcher of the changes after version. ErrExpired means that
// they are no longer all remembered.
func (s *Store) Watch(resource, namespace string, version uint64) (*Watcher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(resource)
	if version < t.floor {
		return nil, ErrExpired
	}
	w := s.watch(t, namespace)
	for _, e := range t.since(version) {
		w.push(e)
	}
	return w, nil
}

// ListAndWatch is List and a Watch from exactly that list on.
func (s *Store) ListAndWatch(resource, namespace string) ([]*Object, uint64, *Watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(resource)
	return s.list(resource, namespace), s.version, s.watch(t, namespace)
}

func (s *Store) watch(t *table, namespace string) *Watcher {
	w := &Watcher{namespace: namespace, wake: make(chan struct{}, 1)}
	w.stop = func() {
		s.mu.Lock()
		delete(t.watchers, w)
		s.mu.Unlock()
	}
	t.watchers[w] = struct{}{}
	return w
}

// push queues a change; false means that the watcher has fallen behind for good.
func (w *Watcher) push(e Event) bool {
	if w.namespace != "" && w.namespace != e.Object.Key.Namespace {
		return true
	}
	w.mu.Lock()
	if w.bytes += len(e.Object.JSON); len(w.queue) >= Behind || w.bytes > BehindBytes && len(w.queue) > 0 {
		w.queue, w.spare, w.expired = nil, nil, true
	} else {
		w.queue = append(w.queue, e)
	}
	ok := !w.expired
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return ok
}

// Ready holds a token after something has happened; then call Take.
func (w *Watcher) Ready() <-chan struct{} { return w.wake }

// Take returns the changes that wait, which are valid until the next call.
// ErrExpired means that some were lost.
func (w *Watcher) Take() ([]Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.expired {
		return nil, ErrExpired
	}
	clear(w.spare)
	batch := w.queue
	w.bytes = 0
	w.queue, w.spare = w.spare[:0], batch
	return batch, nil
}

// Next waits for changes.
func (w *Watcher) Next(ctx context.Context) ([]Event, error) {
	for {
		events, err := w.Take()
		if err != nil || len(events) > 0 {
			return events, err
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Stop ends the watcher.
func (w *Watcher) Stop() { w.stop() }

// Progress returns a version up to which a watcher with an empty queue has seen
// every change, or 0 if changes wait for it.
func (s *Store) Progress(w *Watcher) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 || w.expired {
		return 0
	}
	return s.version
}

// WatchAll returns a watcher of the changes of every resource from now on.
func (s *Store) WatchAll() *Watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &Watcher{wake: make(chan struct{}, 1)}
	w.stop = func() {
		s.mu.Lock()
		delete(s.everything, w)
		s.mu.Unlock()
	}
	s.everything[w] = struct{}{}
	return w
}
