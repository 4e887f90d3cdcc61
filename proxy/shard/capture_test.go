package shard

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/tcp"
)

// outbound is a sidecar's listeners: virtualOutbound hands over to that of the
// service's address, to that of the port, or keeps what nobody knows.
func outbound(t *testing.T) (*bench, *recordLog) {
	b := full(t)
	log := &recordLog{}
	passthrough := &tcp.Config{Cluster: "PassthroughCluster", Logs: []listen.Log{log}}
	blackhole := &tcp.Config{Cluster: "BlackHoleCluster", Logs: []listen.Log{log}}
	redis := &tcp.Config{Cluster: "redis", Logs: []listen.Log{log}}
	for _, cfg := range []cluster.Config{{Name: "PassthroughCluster", Kind: cluster.OriginalDst}, {Name: "BlackHoleCluster"}, static("redis")} {
		c, err := cluster.New(cfg, b.reg, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.rt.Clusters[cfg.Name] = c
	}
	b.endpoints("redis", app2)
	at := func(s string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(s)} }
	rt := *b.rt
	rt.Listeners = []*listen.Config{
		{Name: "virtualOutbound", Version: "1", Addrs: at("0.0.0.0:15001"), UseOriginalDst: true, OriginalDst: true, Direction: listen.Outbound,
			Chains:  []*listen.Chain{{Name: "virtualOutbound-blackhole", Match: listen.Match{DestinationPort: 15001}, Filter: blackhole}},
			Default: &listen.Chain{Name: "virtualOutbound-catchall-tcp", Filter: passthrough}},
		{Name: "0.0.0.0_80", Version: "1", Addrs: at("0.0.0.0:80"), HTTPInspector: &listen.Inspector{}, FiltersTimeout: time.Second, ContinueOnTimeout: true, Direction: listen.Outbound,
			Chains:  []*listen.Chain{{Name: "http", Match: listen.Match{Transport: listen.RawBuffer, ALPN: []string{"http/1.1", "http/1.0"}}, Filter: b.config}},
			Default: &listen.Chain{Name: "PassthroughFilterChain", Filter: passthrough}},
		{Name: "10.96.0.5_6379", Version: "1", Addrs: at("10.96.0.5:6379"), Direction: listen.Outbound, Chains: []*listen.Chain{{Name: "redis", Filter: redis}}},
	}
	if err := b.Apply(&rt); err != nil {
		t.Fatal(err)
	}
	return b, log
}

func TestHandOver(t *testing.T) {
	for _, test := range []struct {
		why, dst, send, chain, flags string
		upstream                     netip.AddrPort
	}{
		{"HTTP goes to the port's listener", "10.96.0.9:80", get("/raw"), "", "", app1},
		{"a service's own address comes first", "10.96.0.5:6379", "PING", "redis", "-", app2},
		{"what nobody knows goes where it wanted", "203.0.113.7:5432", "x", "virtualOutbound-catchall-tcp", "-", netip.MustParseAddrPort("203.0.113.7:5432")},
		{"bytes that are not HTTP on an HTTP port too", "203.0.113.7:80", "\x00\x01\x02", "PassthroughFilterChain", "-", netip.MustParseAddrPort("203.0.113.7:80")},
		{"the proxy's own port goes nowhere", "10.244.0.3:15001", "x", "virtualOutbound-blackhole", "UH", netip.AddrPort{}},
	} {
		b, log := outbound(t)
		var dialed []netip.AddrPort
		b.Refuse(func(d drive.Dial) error { dialed = append(dialed, d.Addr); return nil })
		for _, addr := range []string{"203.0.113.7:5432", "203.0.113.7:80"} {
			b.serve(netip.MustParseAddrPort(addr))
		}
		p := b.Dial("virtualOutbound", client, netip.MustParseAddrPort(test.dst))
		p.WriteString(test.send)
		b.Step()
		p.CloseWrite()
		p.Reset()
		b.Step()
		if test.upstream.IsValid() != (len(dialed) == 1) || len(dialed) == 1 && dialed[0] != test.upstream {
			t.Errorf("%s: dialed %v, want %v", test.why, dialed, test.upstream)
		}
		if test.chain != "" && (log.chain != test.chain || strings.Replace(log.flags, "DC", "-", 1) != test.flags) {
			t.Errorf("%s: chain %q flags %q, want %q %q", test.why, log.chain, log.flags, test.chain, test.flags)
		}
	}
}

// A client that says nothing gets the server's greeting once protocol detection gives up.
func TestServerSpeaksFirst(t *testing.T) {
	b, _ := outbound(t)
	dst := netip.MustParseAddrPort("203.0.113.7:80")
	b.Handle(dst, func(p *drive.Pipe) { p.WriteString("220 hi\r\n") })
	p := b.Dial("virtualOutbound", client, dst)
	b.Advance(900 * time.Millisecond)
	if got := p.Take(); got != "" {
		t.Fatalf("got %q before detection gave up", got)
	}
	b.Advance(200 * time.Millisecond)
	if got := p.Take(); got != "220 hi\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestNoChainIsLogged(t *testing.T) {
	b := full(t)
	rt := *b.rt
	rt.Listeners = []*listen.Config{{Name: "in", Version: "2", Addrs: []netip.AddrPort{local}, Logs: []listen.Log{unserved{b.log}}, Chains: []*listen.Chain{{Match: listen.Match{DestinationPort: 1}, Filter: b.config}}}}
	if err := b.Apply(&rt); err != nil {
		t.Fatal(err)
	}
	p := b.dial()
	b.Step()
	if !p.Closed || !strings.Contains(b.log.last(), " NR filter_chain_not_found ") {
		t.Errorf("closed %v, log %s", p.Closed, b.log.last())
	}
}

// A client whose first bytes show that no chain wants it is reset, as the real Envoy's is: it
// peeks, and a socket that is closed with unread bytes in it answers with a reset.
func TestUnwantedFirstBytesAreReset(t *testing.T) {
	b := full(t)
	rt := *b.rt
	rt.Listeners = []*listen.Config{{
		Name: "in", Version: "2", Addrs: []netip.AddrPort{local}, Logs: []listen.Log{b.log}, TLSInspector: &listen.Inspector{},
		Chains: []*listen.Chain{{Match: listen.Match{Transport: listen.TLS}, Filter: b.config}},
	}}
	if err := b.Apply(&rt); err != nil {
		t.Fatal(err)
	}
	p := b.dial()
	p.WriteString(get("/"))
	b.Step()
	if !p.Broken || !strings.Contains(b.log.last(), " NR filter_chain_not_found ") {
		t.Errorf("reset %v, closed %v, log %s; want a reset", p.Broken, p.Closed, b.log.last())
	}
}

func TestTCPConnectFailure(t *testing.T) {
	b, log := outbound(t)
	b.endpoints("redis", gone)
	p := b.Dial("virtualOutbound", client, netip.MustParseAddrPort("10.96.0.5:6379"))
	b.Step()
	if !p.Closed || log.flags != "UF,URX" {
		t.Errorf("closed %v, flags %s; want true and UF,URX", p.Closed, log.flags)
	}
	b.Refuse(func(drive.Dial) error { return io.EOF })
	p = b.Dial("virtualOutbound", client, netip.MustParseAddrPort("10.96.0.5:6379"))
	b.Advance(6 * time.Second)
	if !p.Closed || log.flags != "UF,URX" {
		t.Errorf("nobody answers: closed %v, flags %s", p.Closed, log.flags)
	}
	if n := b.rt.Clusters["redis"].Limit(cluster.Default).Connections.Used(); n != 0 {
		t.Errorf("%d connections are still counted", n)
	}
}

func TestTCPBackPressure(t *testing.T) {
	b, _ := outbound(t)
	var up *drive.Pipe
	b.Handle(app2, func(p *drive.Pipe) { up = p; p.Window = 1000 })
	p := b.Dial("virtualOutbound", client, netip.MustParseAddrPort("10.96.0.5:6379"))
	b.Step()
	sent := 0
	for p.Unread() == 0 && sent < 32<<20 {
		p.WriteString(strings.Repeat("x", 64<<10))
		b.Step()
		sent += 64 << 10
	}
	if sent > 4<<20 {
		t.Fatalf("%d bytes were taken for a server that takes 1000", sent)
	}
	p.CloseWrite()
	got := 0
	for range 2 * sent / 1000 {
		got += len(up.Take())
		b.Step()
	}
	if got != sent || !up.EOF {
		t.Errorf("the server got %d of %d bytes, end %v", got, sent, up.EOF)
	}
}
