// Package cluster holds the upstream clusters: their hosts, who of them is healthy,
// how many connections and requests they may have, and which one is next.
//
// A [Cluster] keeps its identity while its endpoints change. What is known of a host
// (requests in flight, failures, ejection) lives in its [State], which is carried over
// from one list of hosts to the next by address. A [HostSet] is immutable: readers load
// one pointer, changes of membership or health make a new set.
//
// Limits, loads and counters are shared by all shards, as Envoy's are by its
// workers. Picking a host takes no lock (package lb says where a schedule does) and
// allocates nothing.
//
// Outlier detection and refreshing of names are functions of injected time; who
// calls them, and when, belongs to the caller. Connections belong to proxy/pool,
// active health checking is not done here.
package cluster
