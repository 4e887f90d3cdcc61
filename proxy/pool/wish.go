package pool

import (
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/tls"
)

// The names under which filters leave what a connection to a host is to be like. Envoy's set_filter_state sets them.
const (
	WishServerName  = "envoy.network.upstream_server_name"
	WishNames       = "envoy.network.upstream_subject_alt_names" // with commas between
	WishALPN        = "envoy.network.application_protocols"      // with commas between
	WishDestination = "envoy.network.transport_socket.original_dst_address"
	WishHost        = "envoy.upstream.dynamic_host"
	WishPort        = "envoy.upstream.dynamic_port"
	WishCluster     = "envoy.tcp_proxy.cluster"
	WishIdle        = "envoy.tcp_proxy.per_connection_idle_timeout_ms"
)

// WishOf returns what the state of a request or connection asks of TLS, nil if that is nothing.
func WishOf(s *access.State) *tls.Wish {
	if s.Empty() {
		return nil
	}
	name, has := s.Get(WishServerName)
	names, has2 := s.Get(WishNames)
	alpn, has3 := s.Get(WishALPN)
	if !has && !has2 && !has3 {
		return nil
	}
	return &tls.Wish{ServerName: string(name), Names: list(names), ALPN: list(alpn)}
}

func list(v []byte) []string {
	if len(v) == 0 {
		return nil
	}
	return strings.Split(string(v), ",")
}

// WishedDestination is where a cluster of original destinations is to go instead.
func WishedDestination(s *access.State) (netip.AddrPort, bool) {
	v, ok := s.Get(WishDestination)
	if !ok {
		return netip.AddrPort{}, false
	}
	return pipe.ParseAddrPort(string(v))
}

// WishedPort is the port of the host that a connection is forwarded to.
func WishedPort(s *access.State, otherwise uint16) uint16 {
	if n, ok := numberOf(s, WishPort); ok {
		return uint16(n) // a port, says who has set it
	}
	return otherwise
}

// WishedIdle is how long nothing may happen on a connection.
func WishedIdle(s *access.State, otherwise time.Duration) time.Duration {
	if n, ok := numberOf(s, WishIdle); ok {
		return time.Duration(min(n, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
	}
	return otherwise
}

func numberOf(s *access.State, key string) (uint64, bool) {
	v, ok := s.Get(key)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	return n, err == nil
}

// keyOf is the same for equal wishes only.
func keyOf(w *tls.Wish) string {
	return w.ServerName + "\x00" + strings.Join(w.Names, ",") + "\x00" + strings.Join(w.ALPN, ",")
}
