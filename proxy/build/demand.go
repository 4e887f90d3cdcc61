package build

import (
	"strings"
	"sync"
	"time"
)

const (
	// maxWishes bounds the virtual hosts that clients may have us ask for: a client can invent
	// names as fast as it can send requests.
	maxWishes = 4096
	// wishPatience is how long a request waits for an answer of the control plane if
	// vhds has no initial_fetch_timeout of its own: Envoy's default of that.
	wishPatience = 15 * time.Second
)

// A demand knows which virtual hosts requests have asked for. Shards ask while the store
// may be at work, and the store may be waiting for shards; so it has a lock of its own, under
// which nothing else is locked.
type demand struct {
	wake func() // the names that are wanted have changed

	mu     sync.Mutex
	wishes map[string]*wish // by the resource's name; guarded by mu
	absent []string         // answered with no, the oldest first; guarded by mu
}

// A wish is a virtual host that somebody has asked for.
type wish struct {
	table, host string
	waiting     []func(found bool)
	timer       *time.Timer
	answer      answer
	named       bool // the control plane is asked for it
}

type answer uint8

const (
	pending answer = iota
	present
	absent
)

// vhostName is the name of the resource for a host of a table, as Envoy makes it.
func vhostName(table, host string) string { return table + "/" + host }

// tableOf is the table that a resource belongs to: what stands before the last slash.
func tableOf(name string) string {
	return name[:max(0, strings.LastIndexByte(name, '/'))]
}

// Ask has the control plane asked for the virtual host of a host. done is told, once and
// perhaps at once, whether the table in force has it.
func (d *demand) Ask(table, host string, done func(found bool)) {
	name := vhostName(table, host)
	d.mu.Lock()
	w := d.wishes[name]
	switch {
	case w == nil && len(d.wishes) >= maxWishes && !d.drop():
		d.mu.Unlock()
		done(false)
		return
	case w == nil:
		w = &wish{table: table, host: host, waiting: []func(bool){done}}
		w.timer = time.AfterFunc(wishPatience, func() { d.expire(name) })
		d.wishes[name] = w
		d.mu.Unlock()
		d.wake()
		return
	case w.answer == pending:
		w.waiting = append(w.waiting, done)
		d.mu.Unlock()
		return
	}
	found := w.answer == present
	d.mu.Unlock()
	done(found)
}

// drop forgets a name that there is no virtual host for, the one that was asked for the longest ago.
func (d *demand) drop() bool {
	for len(d.absent) > 0 {
		name := d.absent[0]
		d.absent = d.absent[1:]
		if w := d.wishes[name]; w != nil && w.answer == absent {
			delete(d.wishes, name)
			return true
		}
	}
	return false
}

// names are the resources that are wanted of the tables that want asks about, and those that are named for the first time.
func (d *demand) names(want func(table string) bool) (all, fresh []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, w := range d.wishes {
		if !want(w.table) {
			continue
		}
		if all = append(all, name); !w.named {
			w.named = true
			fresh = append(fresh, name)
		}
	}
	return all, fresh
}

// settle gives the answers that are known: a host is there if the table in force has it, and
// is not if the control plane has answered for its name.
func (d *demand) settle(has func(table, host string) bool, answered func(name string) bool) {
	d.mu.Lock()
	var there, not []string
	for name, w := range d.wishes {
		switch {
		case has(w.table, w.host):
			there = append(there, name)
		case answered(name), w.answer == present:
			not = append(not, name)
		}
	}
	d.mu.Unlock()
	for _, name := range there {
		d.give(name, true)
	}
	for _, name := range not {
		d.give(name, false)
	}
}

// give answers everybody who waits for a name.
func (d *demand) give(name string, found bool) {
	d.mu.Lock()
	d.tell(d.wishes[name], name, found)
}

// expire answers with no if there is no answer yet.
func (d *demand) expire(name string) {
	d.mu.Lock()
	w := d.wishes[name]
	if w != nil && w.answer != pending {
		w = nil // it came while the timer went off
	}
	d.tell(w, name, false)
}

// tell puts an answer down and gives it to those who wait, without the lock, which it takes over.
func (d *demand) tell(w *wish, name string, found bool) {
	if w == nil {
		d.mu.Unlock()
		return
	}
	w.timer.Stop()
	waiting := w.waiting
	w.waiting = nil
	before := w.answer
	if w.answer = present; !found {
		w.answer = absent
		if before != absent {
			d.absent = append(d.absent, name)
		}
	}
	d.mu.Unlock()
	for _, done := range waiting {
		done(found)
	}
}
