package shard

import (
	"regexp"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/stats"
)

var serviceTime = regexp.MustCompile(`x-envoy-upstream-service-time: \d+`)

// clone is the bench's listener with another version and chain.
func clone(b *bench, chain *listen.Chain, version string) *listen.Config {
	old := b.rt.Listeners[0]
	return &listen.Config{Name: old.Name, Version: version, Addrs: old.Addrs, Chains: []*listen.Chain{chain}, Logs: old.Logs}
}

// A recordLog keeps what records said.
type recordLog struct {
	peers          []*stats.Peer // at ends
	opened         []*stats.Peer // when TCP connections were joined
	sni, chain     string
	received, sent uint64
	flags          string
}

func (l *recordLog) Log(_ int, r *access.Record) {
	if r.Type == access.TCPUpstreamConnected {
		l.opened = append(l.opened, r.Peer)
	}
	if r.Type != access.DownstreamEnd && r.Type != access.TCPConnectionEnd {
		return
	}
	l.peers = append(l.peers, r.Peer)
	l.sni, l.chain, l.received, l.sent, l.flags = r.SNI, r.FilterChain, r.BytesReceived, r.BytesSent, r.Flags.String()
}

// unserved is a listener's log that leaves out connections which a filter has served: what became of those is in the filter's log.
type unserved struct{ log listen.Log }

func (u unserved) Log(shard int, r *access.Record) {
	if r.CodeDetails != "" || r.LocalFailure != "" {
		u.log.Log(shard, r)
	}
}
