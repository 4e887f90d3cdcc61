// Package healthcheck asks the hosts of a cluster again and again whether they are well, over HTTP, gRPC or TCP, as Envoy's active health checks do.
//
// A [Checker] has a goroutine and a connection of its own for each host; the path of requests never
// waits for one. What it finds goes into the hosts' state (cluster.SetCheck), so that balancers leave out who
// fails. When a host changes sides is the rule of a [verdict], which knows no clock and no network.
//
// Not here: what a check means for balancing (package cluster), and ejection by what requests see
// (outlier detection, there too).
package healthcheck
