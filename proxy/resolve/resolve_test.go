package resolve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/mallamesh/malla/proxy/cluster"
)

// A nameServer answers from a zone and notes what it was asked.
type nameServer struct {
	addr netip.AddrPort
	zone []dns.RR

	mu    sync.Mutex
	asked []string // guarded by mu: "udp A db.example."
	rcode int      // guarded by mu; of every answer, if not 0
	cut   bool     // guarded by mu: datagrams are too small
	mute  bool     // guarded by mu
}

func newServer(t *testing.T, records ...string) *nameServer {
	t.Helper()
	s := &nameServer{}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		s.zone = append(s.zone, rr)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.addr = netip.MustParseAddrPort(l.Addr().String())
	for _, server := range []*dns.Server{{Listener: l, Handler: s}, {PacketConn: p, Handler: s}} {
		go func() { _ = server.ActivateAndServe() }()
	}
	t.Cleanup(func() { l.Close(); p.Close() })
	return s
}

// set changes how the server behaves.
func (s *nameServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	network := w.RemoteAddr().Network()
	s.mu.Lock()
	s.asked = append(s.asked, network+" "+dns.TypeToString[q.Question[0].Qtype]+" "+q.Question[0].Name)
	rcode, cut, mute := s.rcode, s.cut && network == "udp", s.mute
	s.mu.Unlock()
	if mute {
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.Rcode = rcode
	name, known := q.Question[0].Name, false
	for _, rr := range s.zone {
		if equalNames(rr.Header().Name, name) {
			known = true
			if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
			if c, ok := rr.(*dns.CNAME); ok {
				name = c.Target
			}
		}
	}
	if !known && rcode == 0 {
		m.Rcode = dns.RcodeNameError
	}
	if cut {
		m.Answer, m.Truncated = nil, true
	}
	_ = w.WriteMsg(m)
}

// questions are what was asked, in some order.
func (s *nameServer) questions() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := slices.Clone(s.asked)
	slices.Sort(q)
	return strings.Join(q, ", ")
}

func newResolver(t *testing.T, c Config, conf, hosts string) *Resolver {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"resolv.conf": conf, "hosts": hosts} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := New(c, &net.Dialer{})
	r.system = &system{confPath: filepath.Join(dir, "resolv.conf"), hostsPath: filepath.Join(dir, "hosts")}
	return r
}

var zone = []string{
	"www.example. 7 IN CNAME db.example.",
	"db.example. 30 IN A 10.0.0.1", "db.example. 20 IN A 10.0.0.2", "db.example. 60 IN AAAA fd00::1",
	"four.example. 9 IN A 10.0.0.4", "none.example. 9 IN TXT x", "svc.ns.local. 5 IN A 10.0.0.5",
	"long.example. 2147483647 IN A 10.0.0.6", "never.example. 2147483648 IN A 10.0.0.7",
}

// A family decides what is asked and what is answered; the time to live is the least of what the
// answer rests on, the name that a name stands for included.
func TestResolve(t *testing.T) {
	for _, test := range []struct {
		name   string
		family cluster.Family
		want   string
		ttl    time.Duration
		asked  string
	}{
		{"db.example", cluster.V4Only, "10.0.0.1 10.0.0.2", 20 * time.Second, "udp A db.example."},
		{"DB.Example.", cluster.V6Only, "fd00::1", 60 * time.Second, "udp AAAA DB.Example."},
		{"db.example", cluster.All, "fd00::1 10.0.0.1 10.0.0.2", 20 * time.Second, "udp A db.example., udp AAAA db.example."},
		{"www.example", cluster.V4Only, "10.0.0.1 10.0.0.2", 7 * time.Second, "udp A www.example."},
		{"four.example", cluster.Auto, "10.0.0.4", 9 * time.Second, "udp A four.example., udp AAAA four.example."},
		{"long.example", cluster.V4Only, "10.0.0.6", (1<<31 - 1) * time.Second, "udp A long.example."},
		{"never.example", cluster.V4Only, "10.0.0.7", 0, "udp A never.example."}, // RFC 2181, section 8
		{"none.example", cluster.V4Only, "", 0, "udp A none.example."},
		{"unknown.example", cluster.V4Only, "", 0, "udp A unknown.example."},
		{"10.1.1.1", cluster.V4Only, "10.1.1.1", 0, ""},
		{"here", cluster.V4Only, "10.9.9.9", 0, ""},
		{"shop.Localhost.", cluster.V4Only, "127.0.0.1", 0, ""}, // whatever a name server would say
		{"localhost", cluster.All, "::1 127.0.0.1", 0, ""},
		{"app.localhost", cluster.Auto, "::1", 0, ""}, // though the file has an address of the other family
		{"app.localhost", cluster.All, "::1 127.0.0.7", 0, ""},
		{"shop-localhost", cluster.V4Only, "", 0, "udp A shop-localhost."},
	} {
		s := newServer(t, zone...)
		r := newResolver(t, Config{Servers: []netip.AddrPort{s.addr}, NoSearch: true}, "", "# ours\n10.9.9.9 There here # too\n127.0.0.7 app.localhost\n")
		addrs, ttl, err := r.Resolve(t.Context(), test.name, test.family)
		if got := texts(addrs); got != test.want || ttl != test.ttl || err != nil {
			t.Errorf("%s: %q for %v, %v; want %q for %v", test.name, got, ttl, err, test.want, test.ttl)
		}
		if got := s.questions(); got != test.asked {
			t.Errorf("%s: asked %q, want %q", test.name, got, test.asked)
		}
	}
}

func texts(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, " ")
}

// Short names are looked for in the search domains first, names with enough dots as they are.
func TestSearch(t *testing.T) {
	s := newServer(t, zone...)
	r := newResolver(t, Config{Servers: []netip.AddrPort{s.addr}}, "search a.local local\noptions ndots:2\n", "")
	addrs, _, err := r.Resolve(t.Context(), "svc.ns", cluster.V4Only)
	if texts(addrs) != "10.0.0.5" || err != nil {
		t.Errorf("svc.ns is %v, %v", addrs, err)
	}
	if want := "udp A svc.ns.a.local., udp A svc.ns.local."; s.questions() != want {
		t.Errorf("asked %q, want %q", s.questions(), want)
	}
}

// An answer that does not fit into a datagram comes by TCP.
func TestTruncated(t *testing.T) {
	s := newServer(t, zone...)
	s.set(func() { s.cut = true })
	r := newResolver(t, Config{Servers: []netip.AddrPort{s.addr}, NoSearch: true}, "", "")
	addrs, _, err := r.Resolve(t.Context(), "four.example", cluster.V4Only)
	if want := "tcp A four.example., udp A four.example."; texts(addrs) != "10.0.0.4" || err != nil || s.questions() != want {
		t.Errorf("got %v, %v; asked %q, want %q", addrs, err, s.questions(), want)
	}
}

// A server that fails or says nothing is not the last one that is asked; if all do, that is an error.
func TestOtherServers(t *testing.T) {
	bad, mute, good := newServer(t, zone...), newServer(t, zone...), newServer(t, zone...)
	bad.set(func() { bad.rcode = dns.RcodeServerFailure })
	mute.set(func() { mute.mute = true })
	all := []netip.AddrPort{bad.addr, mute.addr, good.addr}
	r := newResolver(t, Config{Servers: all, NoSearch: true, Timeout: 50 * time.Millisecond}, "", "")
	if addrs, _, err := r.Resolve(t.Context(), "four.example", cluster.V4Only); texts(addrs) != "10.0.0.4" || err != nil {
		t.Errorf("got %v, %v", addrs, err)
	}
	r = newResolver(t, Config{Servers: all[:2], NoSearch: true, Timeout: 50 * time.Millisecond}, "", "")
	if addrs, _, err := r.Resolve(t.Context(), "four.example", cluster.V4Only); err == nil {
		t.Errorf("got %v without an error", addrs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Resolve(ctx, "four.example", cluster.V4Only); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// What is said of another name is no answer: only aliases of the question lead on.
func TestStrangers(t *testing.T) {
	s := newServer(t, zone...)
	m := &dns.Msg{Answer: s.zone}
	if a := addresses(m, "unknown.example.", dns.TypeA); len(a.addrs) != 0 {
		t.Errorf("unknown.example is %v", a.addrs)
	}
	loop, _ := dns.NewRR("a.example. 1 IN CNAME a.example.")
	if a := addresses(&dns.Msg{Answer: []dns.RR{loop}}, "a.example.", dns.TypeA); len(a.addrs) != 0 {
		t.Errorf("a name that stands for itself is %v", a.addrs)
	}
}

// FuzzHosts: a hosts file has lines of all kinds.
func FuzzHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n::1 localhost # x\n\tfe80::1%lo x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, addrs := range parseHosts(text) {
			if name == "" || len(addrs) == 0 {
				continue // "10.0.0.1 ." is the root, which has no name
			}
			for _, a := range addrs {
				if !a.IsValid() || a.Zone() != "" {
					t.Errorf("%q is %v", name, a)
				}
			}
		}
	})
}

// A server that says nothing is asked as often as the configuration says, and then no more.
func TestTries(t *testing.T) {
	for tries := 1; tries <= 2; tries++ {
		s := newServer(t, zone...)
		s.set(func() { s.mute = true })
		r := newResolver(t, Config{Servers: []netip.AddrPort{s.addr}, NoSearch: true, Timeout: 50 * time.Millisecond, Tries: tries}, "", "")
		if addrs, _, err := r.Resolve(t.Context(), "four.example", cluster.V4Only); err == nil {
			t.Errorf("got %v without an error", addrs)
		}
		if got := strings.Count(s.questions(), "udp A four.example."); got > tries || got == 0 {
			t.Errorf("%d tries: asked %d times", tries, got)
		}
	}
}

// Servers take turns at being the first, if the configuration says so.
func TestRotate(t *testing.T) {
	for rotate, want := range map[bool]string{false: "3 0 0", true: "1 1 1"} {
		servers := []*nameServer{newServer(t, zone...), newServer(t, zone...), newServer(t, zone...)}
		c := Config{NoSearch: true, Rotate: rotate}
		for _, s := range servers {
			c.Servers = append(c.Servers, s.addr)
		}
		r := newResolver(t, c, "", "")
		for range servers {
			if _, _, err := r.Resolve(t.Context(), "four.example", cluster.V4Only); err != nil {
				t.Fatal(err)
			}
		}
		var asked []string
		for _, s := range servers {
			asked = append(asked, strconv.Itoa(strings.Count(s.questions(), "four.example.")))
		}
		if got := strings.Join(asked, " "); got != want {
			t.Errorf("rotate %t: servers are asked %s times, want %s", rotate, got, want)
		}
	}
}
