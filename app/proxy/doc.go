// Package proxy is the role of the proxy: a sidecar or gateway of a mesh, or a proxy
// that is started with an Envoy bootstrap file. It builds the parts, starts them,
// drains and ends them.
//
// In a mesh ([Options] without a file) everything comes from the environment that
// Istio's injector gives to a sidecar: who we are, where the control plane is, where
// the token lies. With a file everything comes from the file.
//
// It is a package of its own, below app, so that the lean binary cmd/malla-proxy
// links neither the control plane nor Kubernetes.
package proxy
