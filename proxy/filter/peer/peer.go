// Package peer is the HTTP filter by which the proxies at both ends of a request
// tell each other which workloads they belong to, as Istio's metadata exchange:
// a protobuf Struct in base64 in x-envoy-peer-metadata, and a name in
// x-envoy-peer-metadata-id, on the request and on the response.
//
// Applications see neither: the server's proxy takes the fields off the request,
// the client's off the response. A response tells only if the request did.
//
// What was told goes into the stream's record, interned per shard up to a bound, so that
// the metrics labelled by it cost a pointer per request. The wire format is read and written
// here by hand; [Encode] and [Decode] serve the TCP exchange too.
package peer

import (
	"encoding/base64"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// Name is the filter's name in configurations.
const Name = "istio.metadata_exchange"

// Config says which way the filter talks.
type Config struct {
	Inbound bool                         // it stands before an application: reads requests, writes responses
	ID      string                       // our own name, the node's
	Own     *stats.Peer                  // what we tell; nil: nothing
	Extra   []Entry                      // further entries of our own Struct
	Intern  func(stats.Peer) *stats.Peer // makes equal peers one pointer; nil: each shard has its own
	// Skip says of a cluster that it is outside of the mesh and is told nothing; nil: all are told.
	Skip func(cluster string) bool
}

// An Entry is a string in the Struct.
type Entry struct{ Key, Value string }

type factory struct {
	config   Config
	id, text []byte
}

// New returns the factory of filters.
func New(c Config) stream.Factory {
	f := &factory{config: c, id: []byte(c.ID)}
	if c.Own != nil {
		f.text = base64.StdEncoding.AppendEncode(nil, Encode(c.Own, c.Extra))
	}
	return f
}

func (f *factory) Name() string { return Name }

func (f *factory) New(w *pool.Worker) any {
	known := w.Local(f, func() any { return &cache{intern: f.config.Intern, peers: map[string]*stats.Peer{}} }).(*cache)
	return &exchange{factory: f, known: known}
}

// maxPeers bounds what a shard remembers; after that it starts afresh. What is longer than maxKept tells
// of no workload that we would meet again.
const (
	maxPeers = 2048
	maxKept  = 8 << 10
)

// A cache finds the peer that a field's value tells of.
type cache struct {
	intern func(stats.Peer) *stats.Peer
	peers  map[string]*stats.Peer
	key    []byte
}

// find returns the peer of a principal that told text, which may be empty.
func (c *cache) find(principal string, text []byte) *stats.Peer {
	if principal == "" && len(text) == 0 {
		return nil
	}
	c.key = append(append(append(c.key[:0], principal...), 0), text...)
	if p, ok := c.peers[string(c.key)]; ok {
		return p
	}
	p := new(stats.Peer)
	if raw, err := base64.StdEncoding.DecodeString(string(text)); err == nil {
		if told, err := Decode(raw); err == nil {
			p = told
		}
	}
	p.Principal = principal
	if c.intern != nil {
		p = c.intern(*p)
	}
	if len(c.key) > maxKept {
		c.key = nil
		return p
	}
	if len(c.peers) >= maxPeers {
		clear(c.peers)
	}
	c.peers[string(c.key)] = p
	return p
}

// An exchange handles one stream.
type exchange struct {
	*factory
	known *cache
	asked bool // the request told who sent it
}

// OnRequest reads, or tells.
func (x *exchange) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	if x.config.Inbound {
		text := m.Get(header.XEnvoyPeerMetadata)
		x.asked = text != nil || m.Has(header.XEnvoyPeerMetadataID)
		if p := x.known.find(principal(s.Rec.Downstream), text); p != nil {
			s.Rec.Peer = p
		}
		m.Remove(header.XEnvoyPeerMetadata)
		m.Remove(header.XEnvoyPeerMetadataID)
		return stream.Continue
	}
	m.Remove(header.XEnvoyPeerMetadata) // an application has nothing to tell in our name
	m.Remove(header.XEnvoyPeerMetadataID)
	if x.text != nil && (x.config.Skip == nil || !x.config.Skip(s.Rec.ClusterRaw)) {
		x.tell(m)
	}
	return stream.Continue
}

// OnResponse tells, or reads.
func (x *exchange) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	text := m.Get(header.XEnvoyPeerMetadata)
	if !x.config.Inbound {
		if text != nil || s.Rec.Peer == nil {
			if p := x.known.find(principal(s.Rec.Upstream), text); p != nil {
				s.Rec.Peer = p
			}
		}
	}
	m.Remove(header.XEnvoyPeerMetadata)
	m.Remove(header.XEnvoyPeerMetadataID)
	if x.config.Inbound && x.asked && x.text != nil {
		x.tell(m)
	}
	return stream.Continue
}

func (x *exchange) tell(m *header.Map) {
	m.Add(header.XEnvoyPeerMetadata, x.text)
	m.Add(header.XEnvoyPeerMetadataID, x.id)
}

// OnEnd makes the filter ready for another stream.
func (x *exchange) OnEnd(*stream.Stream) { x.asked = false }

func principal(t *access.TLS) string {
	if t == nil {
		return ""
	}
	return t.PeerID
}
