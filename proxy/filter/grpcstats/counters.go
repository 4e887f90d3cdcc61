package grpcstats

import (
	"bytes"
	"strings"
	"sync"

	"github.com/mallamesh/malla/proxy/stats"
)

// Counters finds the metrics of a gRPC method at a cluster. One is shared by all shards; what
// they have found they keep for themselves ([Counters.Cache]).
type Counters struct {
	registry *stats.Registry
	protocol string // "grpc" or "grpc-web"
	dots     bool   // a service's dots stay in names

	mu     sync.Mutex // guards what follows
	scopes []*stats.Scope
	closed bool
}

// NewCounters returns the counters of a protocol. Unless dots is set, dots in a service's name become
// underscores: Envoy's option replace_dots_in_grpc_service_name, which counts only where all methods are told apart.
func NewCounters(r *stats.Registry, protocol string, dots bool) *Counters {
	return &Counters{registry: r, protocol: protocol, dots: dots}
}

// Close gives the metrics back.
func (c *Counters) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, s := range c.scopes {
		s.Close()
	}
	c.scopes = nil
}

// InUse says that shards keep what they have found until the metrics are given back.
func (c *Counters) InUse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed
}

// maxMethods bounds the methods that one shard tells apart: paths come from strangers. Those beyond count
// without their names.
const maxMethods = 1000

// A Cache is one shard's.
type Cache struct {
	counters *Counters
	sets     map[methodKey]*stats.GRPC
}

type methodKey struct{ cluster, path string }

// Cache returns a new cache.
func (c *Counters) Cache() *Cache { return &Cache{c, map[methodKey]*stats.GRPC{}} }

// Method returns the metrics of the method that a path names. Those of a path that is
// not /service/method are nil.
func (k *Cache) Method(cluster string, path []byte) *stats.GRPC {
	if s, ok := k.sets[methodKey{cluster, string(path)}]; ok {
		return s
	}
	service, method, ok := split(path)
	if !ok {
		return nil
	}
	if len(k.sets) >= maxMethods {
		return k.Plain(cluster)
	}
	return k.add(methodKey{cluster, string(path)}, service, method)
}

// Plain returns the metrics of methods that are not told apart.
func (k *Cache) Plain(cluster string) *stats.GRPC {
	if s, ok := k.sets[methodKey{cluster: cluster}]; ok {
		return s
	}
	return k.add(methodKey{cluster: cluster}, "", "")
}

func (k *Cache) add(key methodKey, service, method string) *stats.GRPC {
	c := k.counters
	if !c.dots {
		service = strings.ReplaceAll(service, ".", "_")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // a connection that outlives its listener counts for nobody
		return new(stats.GRPC)
	}
	set, scope := c.registry.GRPC(key.cluster, c.protocol, service, method)
	c.scopes = append(c.scopes, scope)
	k.sets[key] = set
	return set
}

// split cuts "/service/method".
func split(path []byte) (service, method string, ok bool) {
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if len(path) == 0 || path[0] != '/' {
		return "", "", false
	}
	s, m, ok := bytes.Cut(path[1:], []byte{'/'})
	if !ok || len(s) == 0 || len(m) == 0 || bytes.IndexByte(m, '/') >= 0 {
		return "", "", false
	}
	return string(s), string(m), true
}

// Charge counts a call's end by the status that headers or trailers hold; without one it counts nothing.
func Charge(g *stats.GRPC, status []byte) {
	if g == nil || status == nil {
		return
	}
	n := -1
	if len(status) > 0 && len(status) < 3 {
		n = 0
		for _, c := range status {
			if c < '0' || c > '9' {
				n = -1
				break
			}
			n = n*10 + int(c-'0')
		}
	}
	if c := g.Code(n); c != nil {
		c.Inc()
	}
	if n == 0 {
		g.Success.Inc()
	} else {
		g.Failure.Inc()
	}
	g.Total.Inc()
}
