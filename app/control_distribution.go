package app

import (
	"strconv"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/source/kube"
)

// distributionPath is the page that tells how far the newest configuration has come.
const distributionPath = "/debug/distribution"

// A distribution says how far the newest configuration has come.
type distribution struct {
	// Told holds, for each kind, the newest resourceVersion of an object of which every connected proxy has been told.
	Told map[string]uint64 `json:"told"`
	// Behind are the node ids of the proxies that have not answered to all of it.
	Behind []string `json:"behind"`
}

// hasTold notes that every proxy has been told of what was built last.
func (c *controlPlane) hasTold() {
	c.mu.Lock()
	c.told = c.read
	c.mu.Unlock()
}

func (c *controlPlane) distribution() distribution {
	c.mu.Lock()
	told := c.told
	c.mu.Unlock()
	return distribution{newest(told), c.server.Behind()} // in this order: who is told of more is behind until it answers
}

// newest returns the newest resourceVersion of each kind. They are numbers that grow on every
// API server that follows Kubernetes' rules; others are left out.
func newest(snap *config.Snapshot) map[string]uint64 {
	out := map[string]uint64{}
	for _, kind := range kube.Kinds {
		for _, o := range snap.List(kind) {
			if v, err := strconv.ParseUint(o.Version, 10, 64); err == nil {
				out[kind] = max(out[kind], v)
			}
		}
	}
	return out
}
