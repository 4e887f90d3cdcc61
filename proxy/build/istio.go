package build

import (
	"math"
	"time"

	istiostatsv3 "github.com/envoyproxy/go-control-plane/contrib/envoy/extensions/filters/http/istio_stats/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stats"
)

// istioMetrics is the filter istio.stats: it counts streams by who talked to whom.
type istioMetrics struct {
	shards   []*shardMetrics
	reporter stats.Reporter
	hostName bool // the request's host stands for a service that is not known
	every    time.Duration
}

// shardMetrics is what one shard, and nobody else, touches.
type shardMetrics struct {
	istio *stats.Istio
	cache *stats.Cache
	peers map[namedPeer]*stats.Peer
	open  map[uint64]reported // TCP connections, by number
}

// namedPeer is a workload as it names itself, and the identity that it has proved.
type namedPeer struct {
	said   *stats.Peer
	proved string
}

// reported are the bytes of a connection that have been counted.
type reported struct{ received, sent uint64 }

func newShardMetrics(istio *stats.Istio) *shardMetrics {
	return &shardMetrics{istio: istio, cache: istio.NewCache(), peers: map[namedPeer]*stats.Peer{}, open: map[uint64]reported{}}
}

func (r *listenerReader) metrics(c *istiostatsv3.PluginConfig, at *field.Path) *istioMetrics {
	m := &istioMetrics{shards: r.env.shardMetrics(), reporter: stats.Dest, hostName: !c.GetDisableHostHeaderFallback(),
		every: r.duration(c.GetTcpReportingDuration(), at.Child("tcp_reporting_duration"))}
	if r.outbound {
		m.reporter = stats.Source
	}
	return m
}

// Log counts a stream that has ended, and a TCP connection on its way.
func (m *istioMetrics) Log(shard int, r *access.Record) {
	if shard >= len(m.shards) {
		return
	}
	s := m.shards[shard]
	switch r.Type {
	case access.DownstreamEnd:
		m.http(s, r)
	case access.TCPUpstreamConnected:
		s.cache.TCP(m.key(s, r)).Opened.Inc()
		s.open[r.ConnectionID] = reported{}
	case access.TCPPeriodic, access.TCPConnectionEnd:
		m.tcp(s, r)
	}
}

func (m *istioMetrics) http(s *shardMetrics, r *access.Record) {
	k := m.key(s, r)
	k.Code, k.GRPCStatus = r.Code, -1
	if r.Request != nil && header.IsGRPC(r.Request.Get(header.ContentType)) {
		k.Protocol = stats.ProtocolGRPC
		if n, ok := access.GRPCStatus(r); ok && n >= 0 && n <= math.MaxInt16 {
			k.GRPCStatus = int16(n)
		}
	}
	series := s.cache.HTTP(k)
	series.Requests.Inc()
	series.Duration.Record(uint64(max(r.Duration().Milliseconds(), 0)))
	series.RequestBytes.Record(r.Down.WireIn)
	series.ResponseBytes.Record(r.Down.WireOut)
}

// tcp counts the bytes since the last time: a connection may live for days.
func (m *istioMetrics) tcp(s *shardMetrics, r *access.Record) {
	series := s.cache.TCP(m.key(s, r))
	last, opened := s.open[r.ConnectionID]
	if !opened { // it never reached a host: Istio counts it as opened when it ends
		series.Opened.Inc()
	}
	series.Received.Add(r.BytesReceived - last.received)
	series.Sent.Add(r.BytesSent - last.sent)
	if r.Type == access.TCPPeriodic {
		s.open[r.ConnectionID] = reported{r.BytesReceived, r.BytesSent}
		return
	}
	delete(s.open, r.ConnectionID)
	series.Closed.Inc()
}

// key says which series a stream belongs to.
func (m *istioMetrics) key(s *shardMetrics, r *access.Record) stats.Key {
	k := stats.Key{Reporter: m.reporter, Destination: r.Destination, Flags: uint64(r.Flags)}
	tls := r.Upstream
	if m.reporter == stats.Dest {
		tls = r.Downstream
		k.Security = stats.SecurityNone
		if tls != nil && tls.PeerID != "" {
			k.Security = stats.SecurityMutualTLS
		}
	}
	k.Peer = r.Peer
	if tls != nil {
		k.Local = tls.LocalID
		k.Peer = s.peer(r.Peer, tls.PeerID)
	}
	if k.Destination == nil && m.hostName && m.reporter == stats.Source && r.Request != nil {
		k.Destination = s.cache.Host(r.Request.Get(header.Authority), special(r.ClusterRaw))
	}
	if k.Destination == nil && m.reporter == stats.Source && r.Request == nil {
		if name := special(r.ClusterRaw); name != "" {
			k.Destination = s.cache.Host(nil, name)
		}
	}
	return k
}

// maxPeers bounds a shard's map of peers; it holds those seen lately.
const maxPeers = 4096

// peer joins what a peer says of itself with the identity that it has proved.
func (s *shardMetrics) peer(said *stats.Peer, proved string) *stats.Peer {
	if proved == "" || said != nil && said.Principal == proved {
		return said
	}
	k := namedPeer{said, proved}
	if p := s.peers[k]; p != nil {
		return p
	}
	p := stats.Peer{}
	if said != nil {
		p = *said
	}
	p.Principal = proved
	if len(s.peers) >= maxPeers {
		clear(s.peers)
	}
	s.peers[k] = s.istio.Peer(p)
	return s.peers[k]
}

// special returns the names of clusters that stand for no service.
func special(cluster string) string {
	switch cluster {
	case "PassthroughCluster", "BlackHoleCluster", "InboundPassthroughCluster":
		return cluster
	}
	return ""
}
