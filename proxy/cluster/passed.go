package cluster

import "github.com/mallamesh/malla/proxy/metadata"

// Passed is metadata that a listener inside of the proxy gets to know of the way by which a connection comes to it
// (internal_upstream), beside what filters say and share with connections to hosts.
type Passed []PassedMetadata

// PassedMetadata is a namespace of a host's metadata, or of its cluster's.
type PassedMetadata struct {
	OfCluster bool
	Namespace string
}

// Passes is the metadata that a connection to a host of the cluster is told of. What is not there is counted.
func (c *Cluster) Passes(h *Host) (all map[string]metadata.Struct) {
	for _, m := range *h.Transport.Passed {
		from := h.Metadata.All
		if m.OfCluster {
			from = c.Metadata
		}
		fields, ok := from.Space(m.Namespace)
		if !ok {
			c.inside.NoMetadata.Inc()
			continue
		}
		if all == nil {
			all = map[string]metadata.Struct{}
		}
		all[m.Namespace] = fields
	}
	return all
}
