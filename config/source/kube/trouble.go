package kube

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// repeatAfter is how long a trouble that stays the same is not logged again.
const repeatAfter = time.Minute

// A trouble is what one kind last failed with.
type trouble struct {
	text  string
	since time.Time // of the last line in the log
}

// failed logs what went wrong with a kind, once while it stays the same: client-go
// tries again many times, and says too much or nothing.
func (s *Source) failed(kindName, doing string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, now := s.troubles[kindName], time.Now()
	if old.text == err.Error() && now.Sub(old.since) < repeatAfter {
		return
	}
	s.troubles[kindName] = trouble{err.Error(), now}
	s.o.Log.Warn("the API server does not answer as it should; what is known stays in force", "kind", kindName, "doing", doing, "err", err)
}

// works notes that a kind can be read again.
func (s *Source) works(kindName string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.troubles[kindName]; ok {
		delete(s.troubles, kindName)
		s.o.Log.Info("the API server answers again", "kind", kindName)
	}
}

// reporting wraps list and watch so that their trouble is told. A version that is
// too old is no trouble: the reflector lists again.
func (s *Source) reporting(kindName string, lw *cache.ListWatch) *cache.ListWatch {
	told := func(ctx context.Context, doing string, err error) {
		switch {
		case err == nil:
			s.works(kindName)
		case ctx.Err() == nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) && !apierrors.IsInvalid(err):
			s.failed(kindName, doing, err)
		}
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := lw.ListWithContextFunc(ctx, o)
			told(ctx, "list", err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := lw.WatchFuncWithContext(ctx, o)
			told(ctx, "watch", err)
			return w, err
		},
	}
}
