package tcp

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Config describes a TCP proxy. It must not change once a shard has it.
type Config struct {
	StatPrefix  string
	Stats       *stats.TCP   // nil: none
	Logs        []listen.Log // told at the end, and when the flags below say so
	Cluster     string       // or
	Weighted    []Weighted
	IdleTimeout time.Duration // 0: none (the builder gives Envoy's default, 1 h)
	MaxAge      time.Duration // max_downstream_connection_duration
	AgeJitter   float64       // up to how much longer, as a share of MaxAge
	AfterData   bool          // upstream_connect_mode: no host is gone to before the client has sent something
	Attempts    int           // max_connect_attempts; 0: 1
	Backoff     route.Backoff // between them; zero: none
	DrainClose  bool          // check_drain_close: sessions of a listener that is drained end with the next bytes that pass
	FlushEvery  time.Duration // access_log_flush_interval: a line so often; 0: none
	// FlushConnected and FlushStart have a line written when the connection has reached its host, and when it has come.
	FlushConnected, FlushStart bool
	Metrics                    []listen.Log // told of every moment
	// HashSourceIP makes a connection's hash of the client's address (hash_policy source_ip).
	HashSourceIP bool
	HashState    string            // or of what a filter has left under this name; empty: none
	Criteria     *cluster.Criteria // of the subset to use; nil: none
	// Periodic is how often metrics are told of bytes that have passed (Istio: 5 s); 0: at the end only.
	Periodic time.Duration
	// Exchange, if set, is told to the peer, and the peer's is awaited, over TLS
	// connections that agreed on ALPN istio-peer-exchange.
	Exchange *Exchange
	Tunnel   *Tunnel  // nil: bytes go to the host as they are
	Forward  *Forward // nil: no client names its host
	// TLVs are what hosts that get a header of the PROXY protocol are told beside what the client's said, as TLVPolicy has it.
	TLVs      []proxyproto.Added
	TLVPolicy proxyproto.Policy
}

// A Tunnel says how bytes are carried over a request: a CONNECT, or a POST.
type Tunnel struct {
	Host     *access.Format
	PostPath string           // of a POST; "": a CONNECT
	Headers  *route.Mutations // nil: none
	// KeepHeaders and KeepTrailers have formats know the response's (FILTER_STATE).
	KeepHeaders, KeepTrailers bool
	// RequestID is the field that gets an id of the request, and RequestIDKey what formats find it by (DYNAMIC_METADATA).
	RequestID, RequestIDKey string // "": none
}

// A Weighted is one destination of several.
type Weighted struct {
	Cluster  string
	Weight   uint32
	Criteria *cluster.Criteria // with those of the whole
}

// An Exchange is Istio's TCP metadata exchange.
type Exchange struct {
	Message []byte // magic, length and Any, as sent
	// Parse returns the peer of a principal that told this Any, which may be empty; see peer.DecodeAny.
	Parse func(any []byte, principal string) *stats.Peer
}

// age is how long a connection may last, by a random number: not all that came together go together.
func (c *Config) age(random uint64) time.Duration {
	return c.MaxAge + time.Duration(float64(c.MaxAge)*c.AgeJitter*float64(random>>11)/(1<<53))
}
