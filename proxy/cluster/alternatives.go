package cluster

import (
	"strings"
	"sync"

	"github.com/mallamesh/malla/proxy/stats"
)

// What requests name is bounded: clients of the mesh may name what they want, and nobody forgets a name.
const (
	maxAlternatives    = 100
	maxAlternativeName = 100
)

// alternatives are the statistics of a cluster's responses to requests that have given a name for them.
type alternatives struct {
	registry *stats.Registry

	mu     sync.RWMutex // guards what follows
	all    map[string]alternative
	closed bool
}

type alternative struct {
	*stats.Responses
	scope *stats.Scope
}

// Named returns the set below "cluster.<name>.<alternative>.", nil if the name is none, or there are too many.
func (c *Cluster) Named(name string) *stats.Responses {
	a := &c.named
	a.mu.RLock()
	found, ok := a.all[name]
	full := a.closed || len(a.all) >= maxAlternatives
	a.mu.RUnlock()
	if ok || full || !namesStatistics(name) {
		return found.Responses
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if found, ok = a.all[name]; ok || a.closed || len(a.all) >= maxAlternatives {
		return found.Responses
	}
	if a.all == nil {
		a.all = map[string]alternative{}
	}
	found.Responses, found.scope = a.registry.Responses(c.StatName, name)
	a.all[name] = found
	return found.Responses
}

// namesStatistics reports whether a name is one that statistics can have, and do not have yet.
func namesStatistics(name string) bool {
	return name != "" && name != "external" && name != "internal" && len(name) <= maxAlternativeName && strings.Trim(name, ".") == name && strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	}) < 0
}

func (a *alternatives) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, one := range a.all {
		one.scope.Close()
	}
	a.all, a.closed = nil, true
}
