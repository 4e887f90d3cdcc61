// Package ratelimit says what requests are counted by, and counts.
//
// A [Limit] of a route or virtual host makes a descriptor of a request: a list of keys and values, such as
// ("remote_address", "10.0.0.1"), ("path", "/login"). What a descriptor is good for the filters know: the local
// one has a [Bucket] for some of them, the global one asks a service.
//
// A Bucket is shared by all shards and is one word of memory. It is filled continuously, as Envoy's is, not
// at the ticks of its interval.
package ratelimit
