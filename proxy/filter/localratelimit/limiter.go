package localratelimit

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/ratelimit"
)

// A Rule gives a bucket of its own to a descriptor, or, where a value is empty, one to every value that it takes.
type Rule struct {
	Entries []ratelimit.Entry
	Fill    ratelimit.Fill
	Shadow  bool
}

// wild reports whether some value stands for all.
func (r *Rule) wild() bool {
	return slices.ContainsFunc(r.Entries, func(e ratelimit.Entry) bool { return len(e.Value) == 0 })
}

func (r *Rule) bucket(now time.Time) *ratelimit.Bucket {
	b := ratelimit.NewBucket(r.Fill, now)
	b.Shadow = r.Shadow
	return b
}

// A limiter holds the buckets of a configuration. All shards use it.
type limiter struct {
	config *Config
	main   *ratelimit.Bucket // nil: none, and then nothing is limited unless deny is set
	deny   bool
	exact  map[string]*ratelimit.Bucket
	wild   []*wildcard
}

func newLimiter(c *Config, now time.Time) *limiter {
	l := &limiter{config: c, exact: map[string]*ratelimit.Bucket{}}
	if c.HasDefault {
		if l.deny = c.Fill.Max == 0; !l.deny {
			l.main = ratelimit.NewBucket(c.Fill, now)
		}
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.wild() {
			l.wild = append(l.wild, &wildcard{rule: r, limit: c.MaxDynamic, known: map[string]*list.Element{}})
			continue
		}
		l.exact[string(ratelimit.AppendKey(nil, r.Entries))] = r.bucket(now)
	}
	return l
}

// A match is a bucket that counts for a request.
type match struct {
	bucket *ratelimit.Bucket
	by     *ratelimit.Descriptor
}

// A decision is what becomes of a request, and the bucket that its response tells of, if any.
type decision struct {
	allowed bool
	bucket  *ratelimit.Bucket
	headers ratelimit.Headers
}

// decide takes tokens for a request, cost for each that it counts for. Scratch is memory for it.
func (l *limiter) decide(d *ratelimit.Descriptors, scratch *scratch, cost float64, now time.Time) decision {
	found := scratch.matches[:0]
	for i := range d.List {
		by := &d.List[i]
		scratch.key = ratelimit.AppendKey(scratch.key[:0], by.Entries)
		b := l.exact[string(scratch.key)]
		for j := 0; b == nil && j < len(l.wild); j++ {
			b = l.wild[j].bucket(by.Entries, scratch.key, now)
		}
		if b != nil {
			found = append(found, match{b, by})
		}
	}
	scratch.matches = found
	if len(found) > 1 { // the scarcest first
		slices.SortStableFunc(found, func(a, b match) int {
			switch {
			case a.bucket.Rate() < b.bucket.Rate():
				return -1
			case a.bucket.Rate() > b.bucket.Rate():
				return 1
			}
			return 0
		})
	}
	for _, m := range found {
		if !m.bucket.Take(m.by.Tokens()*cost, now) {
			return decision{bucket: m.bucket, headers: m.by.Headers}
		}
	}
	out := decision{allowed: true}
	if len(found) > 0 {
		out.bucket, out.headers = found[0].bucket, found[0].by.Headers
	}
	if len(found) > 0 && !l.config.AlwaysDefault {
		return out
	}
	switch {
	case l.deny:
		return decision{}
	case l.main == nil:
	case !l.main.Take(cost, now):
		return decision{bucket: l.main}
	case out.bucket == nil:
		out.bucket = l.main
	}
	return out
}

// scratch is memory of a shard for decisions.
type scratch struct {
	key     []byte
	matches []match
}

// A wildcard makes buckets for the values that come, and forgets the one that has been unused for longest.
type wildcard struct {
	rule  *Rule
	limit int

	mu    sync.Mutex // guards what follows
	known map[string]*list.Element
	used  list.List // of *named, the last used first
}

type named struct {
	key    string
	bucket *ratelimit.Bucket
}

func (w *wildcard) bucket(entries []ratelimit.Entry, key []byte, now time.Time) *ratelimit.Bucket {
	if !w.matches(entries) {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.known[string(key)]; e != nil {
		w.used.MoveToFront(e)
		return e.Value.(*named).bucket
	}
	n := &named{string(key), w.rule.bucket(now)}
	w.known[n.key] = w.used.PushFront(n)
	if len(w.known) > w.limit {
		last := w.used.Back()
		w.used.Remove(last)
		delete(w.known, last.Value.(*named).key)
	}
	return n.bucket
}

func (w *wildcard) matches(entries []ratelimit.Entry) bool {
	return slices.EqualFunc(entries, w.rule.Entries, func(have, want ratelimit.Entry) bool {
		return have.Key == want.Key && (len(want.Value) == 0 || string(have.Value) == string(want.Value))
	})
}
