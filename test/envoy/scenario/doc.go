// Package scenario reads the files that hold malla against the real Envoy.
//
// A scenario is one txtar file: a sentence that is true of both proxies,
// configuration, what clients and upstreams do, and what differs on purpose. The
// package turns it into data ([Parse]), into configuration for one proxy
// ([Scenario.Config]) and compares what was seen ([Compare]). It opens no socket:
// package peer does.
//
// All scenarios share one process of each proxy, so names of clusters, listeners,
// secrets and statistics get a prefix on their way in, and lose it on their way
// out ([View.Normalize], the one place where volatile text is made equal).
//
// test/envoy/README.md shows how to write one.
package scenario
