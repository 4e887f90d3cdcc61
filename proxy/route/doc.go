// Package route picks the route of a request and says what the route does to it.
//
// A [Table] is built once, by [NewTable], and never changes. New configuration
// makes a new Table; a request in flight keeps the one it started with.
//
// Inside a virtual host, routes are tried in declared order and the first match
// wins: users depend on it, so the index over paths only leaves out routes that
// cannot match and never reorders them. Hosts are exact, then the longest
// "*.suffix", then the longest "prefix.*", then "*", each found in a hash table, so
// that the number of virtual hosts does not matter.
//
// Matching allocates nothing. What changes a request (rewrites, redirects, header
// operations) appends to buffers of the caller.
//
// Sockets, clusters and protobuf are not known here: a route names a cluster, the
// router filter finds it; proxy/build makes Tables. Hashes of requests are made
// here, and used by the balancer.
package route
