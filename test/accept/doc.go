// Package accept asks both proxies, ours and a real Envoy, whether they accept
// what the control plane makes of the samples, from the manifests people write
// to the resources that every one of their proxies gets.
package accept
