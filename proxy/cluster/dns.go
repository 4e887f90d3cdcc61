package cluster

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A Family says which addresses of a name a cluster uses.
type Family uint8

// The families, as dns_lookup_family has them.
const (
	Auto        Family = iota // v6 if there is one, else v4
	V4Only                    //
	V6Only                    //
	V4Preferred               // v4 if there is one, else v6
	All                       // both
)

// DNSConfig says how a cluster's names are resolved.
type DNSConfig struct {
	Family                  Family
	Refresh                 time.Duration // 0: 5 s
	RespectTTL              bool          // the answer's time to live in place of Refresh
	FailureBase, FailureMax time.Duration // back-off while answers fail; 0: none, always Refresh; ten times the base
	Jitter                  time.Duration // added to each wait, at random up to this
	MinRefresh              time.Duration // the least time to live that is respected
	Resolver                Resolver      // nil: the proxy's own
}

// A Resolver looks up names. TTL is the least of the answer's, 0 if unknown. No address
// and no error means that the name exists without any.
type Resolver interface {
	Resolve(ctx context.Context, name string, family Family) (addrs []netip.Addr, ttl time.Duration, err error)
}

const (
	// resolveTimeout bounds the look-up of a name that a request asks for (dns_query_timeout).
	resolveTimeout = 5 * time.Second
	// patience bounds one look-up of a cluster's name: the resolver gives up by itself, after it has
	// asked all servers.
	patience = time.Minute
)

// A nameSet is the endpoints of a DNS cluster with what their names meant last.
type nameSet struct {
	c         *Cluster
	r         Resolver
	endpoints []Endpoint

	rest Assignment // what the assignment says besides

	mu    sync.Mutex     // guards addrs
	addrs [][]netip.Addr // of a logical cluster in the name server's order, else sorted
}

// RunDNS resolves the endpoints of a StrictDNS or LogicalDNS cluster until ctx ends. Ready
// is called once, when every name has been answered or refused for the first time.
//
// A failure keeps the addresses that are known: a name server that is away must not take
// a service away. A strict cluster has a host for each address of a name, a logical one
// has one host, which is tried at all of them.
func (c *Cluster) RunDNS(ctx context.Context, r Resolver, a Assignment, ready func()) {
	endpoints := a.Endpoints
	n := &nameSet{c: c, r: r, endpoints: endpoints, rest: a, addrs: make([][]netip.Addr, len(endpoints))}
	var first, all sync.WaitGroup
	for i := range endpoints {
		if e := &endpoints[i]; e.Addr.IsValid() {
			n.addrs[i] = []netip.Addr{e.Addr.Addr()}
			continue
		}
		first.Add(1)
		all.Go(func() { n.refresh(ctx, i, sync.OnceFunc(first.Done)) })
	}
	if slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.Addr.IsValid() }) {
		n.publish()
	}
	first.Wait()
	if ready != nil && ctx.Err() == nil {
		ready()
	}
	all.Wait()
}

// refresh looks one name up again and again.
func (n *nameSet) refresh(ctx context.Context, i int, answered func()) {
	defer answered()
	for failures := 0; ctx.Err() == nil; {
		ttl, ok := n.lookup(ctx, i)
		if failures++; ok {
			failures = 0
		}
		answered()
		t := time.NewTimer(n.c.DNS.wait(failures, ttl, rand.Uint64()))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// wait is how long an answer is believed.
func (d *DNSConfig) wait(failures int, ttl time.Duration, random uint64) time.Duration {
	wait := d.Refresh
	if wait == 0 {
		wait = 5 * time.Second
	}
	switch {
	case failures > 0 && d.FailureBase > 0:
		base := d.FailureBase
		limit := d.FailureMax
		if limit == 0 {
			limit = 10 * base
		}
		wait = base
		for ; failures > 1 && wait < limit; failures-- {
			wait *= 2
		}
		wait = min(wait, limit)
		wait -= time.Duration(random % uint64(wait/4+1)) // not all at once
	case failures == 0 && d.RespectTTL && ttl > 0:
		wait = max(ttl, d.MinRefresh, time.Second)
	}
	if d.Jitter > 0 {
		wait += time.Duration(random % uint64(d.Jitter))
	}
	return wait
}

func (n *nameSet) lookup(ctx context.Context, i int) (ttl time.Duration, ok bool) {
	n.c.Stats.UpdateAttempt.Inc()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	addrs, ttl, err := n.r.Resolve(ctx, n.endpoints[i].Name, n.c.DNS.Family)
	// A name without addresses is an answer where a cluster has many; one that has a single host keeps it, as in Envoy.
	if err != nil || len(addrs) == 0 && n.c.Kind == LogicalDNS {
		n.c.Stats.UpdateFailure.Inc()
		return 0, false
	}
	n.c.Stats.UpdateSuccess.Inc()
	addrs = n.c.DNS.Family.Choose(addrs)
	if n.c.Kind != LogicalDNS {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	n.mu.Lock()
	changed := !slices.Equal(n.addrs[i], addrs)
	n.addrs[i] = addrs
	n.mu.Unlock()
	switch {
	case changed:
		n.publish()
	case n.c.Kind == StrictDNS:
		n.c.Stats.UpdateNoRebuild.Inc()
	}
	return ttl, true
}

// Choose applies the family to an answer that may hold both, on a copy.
func (f Family) Choose(addrs []netip.Addr) []netip.Addr {
	var v4, v6 []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	switch f {
	case V4Only:
		return v4
	case V6Only:
		return v6
	case All:
		return append(v6, v4...)
	case V4Preferred:
		v4, v6 = v6, v4
	}
	if len(v6) > 0 {
		return v6
	}
	return v4
}

// publish hands the present addresses to the cluster. Reading and handing over are one step,
// so that an older picture never replaces a newer one.
func (n *nameSet) publish() {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []Endpoint
	for i, addrs := range n.addrs {
		for _, a := range addrs {
			e := n.endpoints[i]
			port := e.Port
			if e.Addr.IsValid() {
				port = e.Addr.Port()
			}
			e.Addr = netip.AddrPortFrom(a, port)
			if n.c.Kind == LogicalDNS {
				e.More = beside(e.Addr, addrs)
				list = append(list, e)
				break
			}
			list = append(list, e)
		}
	}
	now := n.rest
	now.Endpoints = list
	n.c.Assign(now)
}
