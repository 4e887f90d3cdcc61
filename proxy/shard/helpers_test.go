package shard

import (
	"regexp"

	"github.com/mallamesh/malla/proxy/listen"
)

var serviceTime = regexp.MustCompile(`x-envoy-upstream-service-time: \d+`)

// clone is the bench's listener with another version and chain.
func clone(b *bench, chain *listen.Chain, version string) *listen.Config {
	old := b.rt.Listeners[0]
	return &listen.Config{Name: old.Name, Version: version, Addrs: old.Addrs, Chains: []*listen.Chain{chain}, Logs: old.Logs}
}
