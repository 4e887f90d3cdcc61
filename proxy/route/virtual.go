package route

import (
	"fmt"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stats"
)

// A VirtualCluster counts some requests of a virtual host under a name of their own.
type VirtualCluster struct {
	Logged string // its name in access logs; that of the requests which none is for has none
	Stats  *stats.VirtualClusterUse

	headers []headerMatcher
}

func newVirtualClusters(list []VirtualClusterConfig) ([]VirtualCluster, error) {
	var out []VirtualCluster
	for i, c := range list {
		v := VirtualCluster{Logged: c.Name, Stats: c.Stats}
		if len(c.Headers) == 0 {
			v.Logged = ""
		}
		for k, h := range c.Headers {
			m, err := newHeaderMatcher(h)
			if err != nil {
				return nil, fmt.Errorf("virtual_clusters[%d].headers[%d]: %w", i, k, err)
			}
			v.headers = append(v.headers, m)
		}
		out = append(out, v)
	}
	return out, nil
}

// Cluster returns the virtual cluster of a request, the first that matches; nil if there is none.
func (v *VirtualHost) Cluster(r *Request) *VirtualCluster {
	for i := range v.clusters {
		if c := &v.clusters[i]; c.match(r) {
			return c
		}
	}
	return nil
}

func (c *VirtualCluster) match(r *Request) bool {
	for i := range c.headers {
		if !c.headers[i].match(r) {
			return false
		}
	}
	return true
}

// RemoveInternal takes away what only clients inside of the mesh may say.
func (t *Table) RemoveInternal(m *header.Map) {
	for _, name := range t.internal {
		m.RemoveName(name)
	}
}

// Limit is how many bytes of a body may be kept where a connection may have so many.
func (b Buffer) Limit(connection int) int {
	if b.Body != nil {
		return *b.Body
	}
	if b.AtMost != nil {
		return min(*b.AtMost, connection)
	}
	return connection
}
