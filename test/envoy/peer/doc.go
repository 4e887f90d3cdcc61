// Package peer is what stands before and behind a proxy in test/envoy: clients that
// send exactly the bytes of a scenario, and upstreams that answer with exactly the
// bytes of a scenario. Both note what they saw; neither judges it.
//
// Every wait has a deadline. A protocol on the client's side is a [protocol]: h1.go
// and h2.go hold one each.
package peer
