// Package conformance runs the conformance suite of Gateway API against a mesh on this
// machine.
//
// It is a module of its own, because the suite brings along a good part of Kubernetes.
// `go test -run TestMesh` builds the suite's own echo server, starts a mesh, and runs the
// suite (TestSuite of this very package) as a pod in it, where gateways are reached by the
// names of their Services; with -update it writes docs/conformance.md.
package conformance
