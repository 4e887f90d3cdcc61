package cluster

import (
	"context"
	"net/netip"
	"time"
)

// A Family says which addresses of a name a cluster uses.
type Family uint8

// The families, as dns_lookup_family has them.
const (
	Auto Family = iota // v6 if there is one, else v4
	V4Only
	V6Only
	V4Preferred
	All
)

// DNSConfig says how a cluster's names are resolved.
type DNSConfig struct {
	Family                  Family
	Refresh                 time.Duration // 0: 5 s
	RespectTTL              bool
	FailureBase, FailureMax time.Duration // back-off of refreshes that failed; 0: as Refresh
	Jitter                  time.Duration
}

// A Resolver looks up names. TTL is the least of the answer's, 0 if unknown.
type Resolver interface {
	Resolve(ctx context.Context, name string, family Family) (addrs []netip.Addr, ttl time.Duration, err error)
}

// RunDNS resolves the endpoints of a StrictDNS or LogicalDNS cluster until ctx ends. Ready
// is called once, after the first round of answers.
func (c *Cluster) RunDNS(ctx context.Context, r Resolver, endpoints []Endpoint, ready func()) {}
