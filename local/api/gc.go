package api

import (
	"cmp"
	"context"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mallamesh/malla/local/api/store"
)

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }

// A collector removes what nobody owns any more, ends namespaces, and finishes
// deletions that wait for dependents. It is Kubernetes' garbage collector,
// namespace controller and service-account controller in one loop over changes.
type collector struct {
	s          *Server
	dependents map[types.UID]map[store.Key]struct{} // by owner
	owners     map[store.Key][]types.UID            // as dependents knows them
	alive      map[types.UID]store.Key
}

// sweepEvery bounds how long something stays that a lost race left behind.
const sweepEvery = 10 * time.Second

func (s *Server) collectGarbage() {
	c := &collector{s: s, dependents: map[types.UID]map[store.Key]struct{}{}, owners: map[store.Key][]types.UID{}, alive: map[types.UID]store.Key{}}
	feed := s.store.WatchAll()
	defer feed.Stop()
	for _, o := range s.store.All() {
		c.learn(o)
	}
	c.sweep()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-feed.Ready():
			events, err := feed.Take()
			if err != nil { // fell behind: learn everything anew
				feed.Stop()
				s.work.Go(s.collectGarbage)
				return
			}
			for _, e := range events {
				c.on(e)
			}
		case <-tick.C:
			c.sweep()
		case <-s.ctx.Done():
			return
		}
	}
}

func (c *collector) learn(o *store.Object) {
	c.alive[o.Value.GetUID()] = o.Key
	var owners []types.UID
	for _, r := range o.Value.GetOwnerReferences() {
		owners = append(owners, r.UID)
	}
	had := c.owners[o.Key]
	if slices.Equal(had, owners) {
		return
	}
	c.unlink(o.Key)
	for _, uid := range owners {
		set := c.dependents[uid]
		if set == nil {
			set = map[store.Key]struct{}{}
			c.dependents[uid] = set
		}
		set[o.Key] = struct{}{}
	}
	if len(owners) > 0 {
		c.owners[o.Key] = owners
	}
}

func (c *collector) unlink(k store.Key) {
	for _, uid := range c.owners[k] {
		delete(c.dependents[uid], k)
		if len(c.dependents[uid]) == 0 {
			delete(c.dependents, uid)
		}
	}
	delete(c.owners, k)
}

func (c *collector) on(e store.Event) {
	if e.Type == store.Deleted {
		c.gone(e.Object)
		return
	}
	known := len(c.owners[e.Object.Key])
	c.learn(e.Object)
	if len(c.owners[e.Object.Key]) > 0 && (e.Type == store.Added || known == 0) {
		c.orphaned(e.Object.Key)
	}
	if e.Object.Value.GetDeletionTimestamp() != nil {
		c.finish(e.Object.Key)
	}
}

// gone follows a deletion: dependents without another owner go too, owners that
// waited for this dependent go on, and what a namespace always has comes back.
func (c *collector) gone(o *store.Object) {
	uid := o.Value.GetUID()
	delete(c.alive, uid)
	owners := c.owners[o.Key]
	c.unlink(o.Key)
	c.s.told.forget(o.Key)
	for k := range c.dependents[uid] {
		c.orphaned(k)
	}
	for _, owner := range owners {
		if k, ok := c.alive[owner]; ok {
			c.finish(k)
		}
	}
	ns := o.Key.Namespace
	if ns == "" {
		return
	}
	if n := c.s.namespace(ns); n != nil && n.GetDeletionTimestamp() != nil {
		c.finish(store.Key{Resource: "namespaces", Name: ns})
	} else if o.Key.Resource == "serviceaccounts" && o.Key.Name == "default" || o.Key.Resource == "configmaps" && o.Key.Name == rootCAName {
		c.s.furnish(ns)
	}
}

// orphaned deletes a dependent none of whose owners is alive.
func (c *collector) orphaned(k store.Key) {
	o := c.s.store.Get(k)
	if o == nil || o.Value.GetDeletionTimestamp() != nil {
		return
	}
	refs := o.Value.GetOwnerReferences()
	if len(refs) == 0 {
		return
	}
	for _, r := range refs {
		if owner, ok := c.alive[r.UID]; ok && (owner.Namespace == "" || owner.Namespace == k.Namespace) {
			return
		}
		// The owner may be younger than what this loop has seen.
		if c.s.exists(r, k.Namespace) {
			return
		}
	}
	uid := o.Value.GetUID()
	c.remove(k, &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
}

// exists looks an owner up by its name.
func (s *Server) exists(r metav1.OwnerReference, namespace string) bool {
	for _, res := range s.kinds.all {
		if res.Kind.Kind != r.Kind || apiVersion(res.Group, res.Versions[0]) != r.APIVersion && !sameGroup(r.APIVersion, res.Group) {
			continue
		}
		k := store.Key{Resource: res.key, Name: r.Name}
		if res.Namespaced {
			k.Namespace = namespace
		}
		o := s.store.Get(k)
		return o != nil && o.Value.GetUID() == r.UID
	}
	return false
}

// finish ends a deletion whose reasons to wait have gone.
func (c *collector) finish(k store.Key) {
	o := c.s.store.Get(k)
	if o == nil || o.Value.GetDeletionTimestamp() == nil {
		return
	}
	if k.Resource == "namespaces" {
		c.finishNamespace(o)
		return
	}
	f := o.Value.GetFinalizers()
	switch {
	case slices.Contains(f, metav1.FinalizerDeleteDependents):
		if c.deleteDependents(o) {
			c.dropFinalizer(k, metav1.FinalizerDeleteDependents)
		}
	case slices.Contains(f, metav1.FinalizerOrphanDependents):
		c.release(o)
		c.dropFinalizer(k, metav1.FinalizerOrphanDependents)
	}
}

// deleteDependents begins their deletion and reports whether all are gone.
func (c *collector) deleteDependents(o *store.Object) bool {
	uid := o.Value.GetUID()
	foreground := metav1.DeletePropagationForeground
	left := 0
	for k := range c.dependents[uid] {
		d := c.s.store.Get(k)
		if d == nil {
			continue
		}
		left++
		if d.Value.GetDeletionTimestamp() == nil {
			du := d.Value.GetUID()
			c.remove(k, &metav1.DeleteOptions{PropagationPolicy: &foreground, Preconditions: &metav1.Preconditions{UID: &du}})
			if c.s.store.Get(k) == nil {
				left--
			}
		}
	}
	return left == 0
}

// release takes the owner out of its dependents.
func (c *collector) release(o *store.Object) {
	uid := o.Value.GetUID()
	for k := range c.dependents[uid] {
		c.edit(k, func(u *unstructured.Unstructured) {
			u.SetOwnerReferences(slices.DeleteFunc(u.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == uid }))
		})
	}
}

func (c *collector) dropFinalizer(k store.Key, name string) {
	c.edit(k, func(u *unstructured.Unstructured) {
		u.SetFinalizers(slices.DeleteFunc(u.GetFinalizers(), func(f string) bool { return f == name }))
	})
}

// edit changes an object directly, without admission.
func (c *collector) edit(k store.Key, f func(*unstructured.Unstructured)) {
	for range tries {
		old := c.s.store.Get(k)
		if old == nil {
			return
		}
		u := old.Value.DeepCopy()
		f(u)
		var err error
		if u.GetDeletionTimestamp() != nil && len(u.GetFinalizers()) == 0 && graceOver(u) {
			_, err = c.s.store.Delete(k, old.Version, u)
		} else {
			_, err = c.s.store.Put(k, old.Version, u, old.Notices)
		}
		if err == nil {
			return
		}
	}
}

func (c *collector) remove(k store.Key, opts *metav1.DeleteOptions) {
	res := c.s.kinds.byKey(k.Resource)
	if res == nil {
		return
	}
	if _, _, err := c.s.remove(context.Background(), res, k, opts, "system:garbage-collector"); err != nil && !isNotFound(err) && !apierrors.IsConflict(err) {
		c.s.log.Warn("delete what its owner left", "object", k.String(), "error", err)
	}
}

// finishNamespace deletes what is in a namespace that is going, and then it.
func (c *collector) finishNamespace(o *store.Object) {
	left := 0
	for _, res := range c.s.kinds.all {
		if !res.Namespaced {
			continue
		}
		objects, _ := c.s.store.List(res.key, o.Key.Name)
		for _, d := range objects {
			if d.Value.GetDeletionTimestamp() == nil {
				c.remove(d.Key, &metav1.DeleteOptions{})
			}
			if c.s.store.Get(d.Key) != nil {
				left++
			}
		}
	}
	if left > 0 || len(o.Value.GetFinalizers()) > 0 {
		return
	}
	if now := c.s.store.Get(o.Key); now != nil && now.Value.GetDeletionTimestamp() != nil {
		c.s.store.Delete(o.Key, now.Version, nil)
	}
}

// Events tell of the recent past: Kubernetes too forgets them after an hour. The
// bound keeps a pod that fails for days from filling the memory.
const (
	eventLife = time.Hour
	maxEvents = 2000
)

func (c *collector) forgetEvents() {
	events, _ := c.s.store.List("events", "")
	slices.SortFunc(events, func(a, b *store.Object) int { return cmp.Compare(a.Version, b.Version) })
	now := c.s.now()
	for i, o := range events {
		if len(events)-i <= maxEvents && now.Sub(lastSeen(o.Value)) < eventLife {
			continue
		}
		c.s.store.Delete(o.Key, o.Version, nil) // one that changes meanwhile is not old
	}
}

// lastSeen is when an event last happened.
func lastSeen(u *unstructured.Unstructured) time.Time {
	for _, path := range [][]string{{"series", "lastObservedTime"}, {"lastTimestamp"}, {"eventTime"}} {
		text, _, _ := unstructured.NestedString(u.Object, path...)
		if t, err := time.Parse(time.RFC3339, text); err == nil {
			return t
		}
	}
	return u.GetCreationTimestamp().Time
}

// sweep looks at everything once, for what single changes did not show.
func (c *collector) sweep() {
	c.forgetEvents()
	for k := range c.owners {
		c.orphaned(k)
	}
	for _, o := range c.s.store.All() {
		if o.Value.GetDeletionTimestamp() != nil {
			c.finish(o.Key)
		}
	}
}
