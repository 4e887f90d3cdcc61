package xds

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

// client is one connected stream.
type client struct {
	server *Server
	node   string // its id
	group  string // its "cluster": what replicas share
	guest  *guest
	own    int // bytes kept of the node
	caller pki.ID
	proxy  Proxy
	stream uint64 // number of the stream, in its nonces
	since  time.Time
	woken  chan struct{} // holds one token: something in pending

	// wakes guards pending. It has a lock of its own, which nobody holds for longer
	// than it takes to write a word down: a change is told to every client, also to
	// those that are in the middle of a response.
	wakes   sync.Mutex
	pending map[string]bool // types to compare at the next turn
	turning bool            // those of the last turn are being compared

	// mu guards what follows and the watches' contents. Only the stream's own
	// goroutine changes watches; Clients reads them.
	mu          sync.Mutex
	watches     map[string]*watch
	held        map[string]bool // types whose push waits for the answer to the last one
	nonces      uint64
	convergedAt uint64 // generation last reported as in force
}

// wake notes that types may have changed.
func (c *client) wake(types []string) {
	c.wakes.Lock()
	for _, t := range types {
		c.pending[t] = true
	}
	c.wakes.Unlock()
	select {
	case c.woken <- struct{}{}:
	default: // it will be seen with the token that is there
	}
}

// takeWoken returns the types noted by wake and forgets them.
func (c *client) takeWoken() map[string]bool {
	c.wakes.Lock()
	defer c.wakes.Unlock()
	types := maps.Clone(c.pending)
	clear(c.pending)
	c.turning = true
	return types
}

// turned notes that what takeWoken returned has been compared.
func (c *client) turned() {
	c.wakes.Lock()
	defer c.wakes.Unlock()
	c.turning = false
}

// behind reports whether something is on its way to the client, or will be.
func (c *client) behind() bool {
	c.wakes.Lock()
	waits := c.turning || len(c.pending) > 0
	c.wakes.Unlock()
	if waits {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, w := range c.watches {
		if c.held[t] || len(w.unanswered) > 0 {
			return true
		}
	}
	return false
}

// nonce names the next response. The caller holds mu.
func (c *client) nonce() string { return fmt.Sprintf("%d-%d", c.stream, c.nonces) }

// acked returns the newest generation that the client has acknowledged for
// every type it subscribes to. The caller holds mu.
func (c *client) acked() uint64 {
	var lowest uint64
	first := true
	for _, w := range c.watches {
		if first || w.acked < lowest {
			lowest, first = w.acked, false
		}
	}
	return lowest
}

// converged measures how long the newest acknowledged generation took from the
// event that made it, once for each generation.
func (c *client) converged() {
	r := c.proxy.Resources()
	c.mu.Lock()
	acked := c.acked()
	done := acked == r.Generation() && acked != c.convergedAt
	if done {
		c.convergedAt = acked
	}
	c.mu.Unlock()
	if b, ok := r.(interface{ Born() time.Time }); ok && done && c.server.Metrics != nil {
		if born := b.Born(); born.After(c.since) {
			c.server.Metrics.converged(c.server.Now().Sub(born))
		}
	}
}

// health passes on what the client says of its application.
func (c *client) health(trouble *rpcstatus.Status) {
	m, ok := c.proxy.(Member)
	if !ok {
		return // of a workload that is not registered by its proxy others know how it fares
	}
	said := ""
	if trouble != nil {
		said = cmp.Or(trouble.GetMessage(), "its proxy does not say why")
		said = strings.ToValidUTF8(said[:min(len(said), maxDetail)], "?")
	}
	m.Health(said)
}

// Status is what is known of one client: the rows of proxy-status.
type Status struct {
	Node      string                `json:"node"`
	Cluster   string                `json:"cluster,omitempty"`
	Identity  string                `json:"identity,omitempty"`
	Connected time.Time             `json:"connected"`
	Acked     uint64                `json:"acked_generation"`
	Types     map[string]TypeStatus `json:"types"`
}

// TypeStatus is the state of one type at a client.
type TypeStatus struct {
	Wildcard  bool   `json:"wildcard"`
	Resources int    `json:"resources"` // how many the client has
	State     string `json:"state"`     // SYNCED, STALE (an answer is due) or NACK
	Acked     uint64 `json:"acked_generation"`
	Nack      *Nack  `json:"nack,omitempty"` // the newest that stands
	// Earlier are the others, oldest first, of resources that have not been taken since.
	Earlier []*Nack `json:"earlier_nacks,omitempty"`
}

func (c *client) status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Node: c.node, Cluster: c.group, Identity: c.caller.String(), Connected: c.since, Acked: c.acked(), Types: map[string]TypeStatus{}}
	for t, w := range c.watches {
		row := TypeStatus{Wildcard: w.wildcard, State: "SYNCED", Acked: w.acked, Nack: w.refusals.newest()}
		for _, version := range w.have {
			if version != gone {
				row.Resources++
			}
		}
		if len(w.unanswered) > 0 {
			row.State = "STALE"
		}
		if all := w.refusals.standing(); len(all) > 0 {
			row.State, row.Earlier = "NACK", all[:len(all)-1]
		}
		s.Types[Short(t)] = row
	}
	return s
}

// Refused is what a client refuses of one type.
type Refused struct {
	Proxy *model.Proxy
	Nack
}

// Refused lists what clients refuse at the moment, sorted by node and type.
func (s *Server) Refused() []Refused {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Refused
	for c := range s.clients {
		p, ok := c.proxy.(interface{ of() *model.Proxy })
		if !ok {
			continue
		}
		c.mu.Lock()
		for _, w := range c.watches {
			for _, n := range w.refusals.standing() {
				out = append(out, Refused{p.of(), *n})
			}
		}
		c.mu.Unlock()
	}
	slices.SortStableFunc(out, func(a, b Refused) int {
		return cmp.Or(strings.Compare(a.Proxy.ID, b.Proxy.ID), strings.Compare(a.Type, b.Type))
	})
	return out
}
