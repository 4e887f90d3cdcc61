package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func testServer() *Server {
	s := &Server{Forward: func(_ context.Context, q *dns.Msg) (*dns.Msg, error) {
		if q.Question[0].Name == "broken.example." {
			return nil, errors.New("no answer")
		}
		a := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
		}
		return a, nil
	}}
	s.SetTable(NewTable([]string{"cluster.local"}, map[string]Record{
		"web.default.svc.cluster.local":           {Addrs: addrs("10.96.0.7", "fd00::7")},
		"v4.default.svc.cluster.local":            {Addrs: addrs("10.96.0.8")},
		"0.db.default.svc.cluster.local":          {Addrs: addrs("10.244.0.1")},
		"db.default.svc.cluster.local":            {Addrs: addrs("10.244.0.1", "10.244.0.2", "10.244.0.3")},
		"_http._tcp.db.default.svc.cluster.local": {SRV: []SRV{{"0.db.default.svc.cluster.local", 80}}},
		"ext.default.svc.cluster.local":           {CNAME: "www.example.com."},
		"alias.default.svc.cluster.local":         {CNAME: "web.default.svc.cluster.local"},
		"circle.default.svc.cluster.local":        {CNAME: "Circle.default.svc.cluster.local"},
		"dangling.default.svc.cluster.local":      {CNAME: "nobody.default.svc.cluster.local"},
		"*.wild.example":                          {Addrs: addrs("240.240.0.1")},
		"exact.wild.example":                      {Addrs: addrs("240.240.0.2")},
		"HOST.malla.internal.":                    {Addrs: addrs("10.96.255.254")},
	}))
	return s
}

func TestAnswers(t *testing.T) {
	s := testServer()
	for _, test := range []struct {
		name  string
		qtype uint16
		want  string // code, then the answers' data
		why   string
	}{
		{"web.default.svc.cluster.local.", dns.TypeA, "NOERROR 10.96.0.7", ""},
		{"web.default.svc.cluster.local.", dns.TypeAAAA, "NOERROR fd00::7", ""},
		{"WEB.Default.svc.cluster.local.", dns.TypeA, "NOERROR 10.96.0.7", "names ignore case"},
		{"v4.default.svc.cluster.local.", dns.TypeAAAA, "NOERROR", "a known name without such a record is empty, not unknown: resolvers would go on searching"},
		{"web.default.svc.cluster.local.", dns.TypeMX, "NOERROR", ""},
		{"nobody.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN", ""},
		{"default.svc.cluster.local.", dns.TypeA, "NOERROR", "something is below it, so it exists (RFC 8020)"},
		{"www.example.com.default.svc.cluster.local.", dns.TypeA, "NXDOMAIN", "ndots:5 asks this first; it must not go out"},
		{"www.example.com.", dns.TypeA, "NOERROR 192.0.2.1", "forwarded"},
		{"broken.example.", dns.TypeA, "SERVFAIL", ""},
		{"ext.default.svc.cluster.local.", dns.TypeA, "NOERROR www.example.com. 192.0.2.1", "an ExternalName is followed outside"},
		{"ext.default.svc.cluster.local.", dns.TypeCNAME, "NOERROR www.example.com.", ""},
		{"alias.default.svc.cluster.local.", dns.TypeA, "NOERROR web.default.svc.cluster.local. 10.96.0.7", "and inside"},
		{"circle.default.svc.cluster.local.", dns.TypeA, "SERVFAIL", "not for ever"},
		{"dangling.default.svc.cluster.local.", dns.TypeA, "NOERROR nobody.default.svc.cluster.local.", ""},
		{"db.default.svc.cluster.local.", dns.TypeA, "NOERROR 10.244.0.1 10.244.0.2 10.244.0.3", "headless: all"},
		{"_http._tcp.db.default.svc.cluster.local.", dns.TypeSRV, "NOERROR 0.db.default.svc.cluster.local.:80", ""},
		{"a.wild.example.", dns.TypeA, "NOERROR 240.240.0.1", "a wildcard"},
		{"a.b.wild.example.", dns.TypeA, "NOERROR 240.240.0.1", "of any depth"},
		{"b.exact.wild.example.", dns.TypeA, "NOERROR 240.240.0.1", "also below a listed name"},
		{"exact.wild.example.", dns.TypeA, "NOERROR 240.240.0.2", "exact names first"},
		{"wild.example.", dns.TypeAAAA, "NOERROR", "not the domain itself: forwarded"},
		{"host.malla.internal.", dns.TypeA, "NOERROR 10.96.255.254", ""},
		{"7.0.96.10.in-addr.arpa.", dns.TypePTR, "NOERROR web.default.svc.cluster.local.", ""},
		{"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NOERROR web.default.svc.cluster.local.", ""},
		{"1.0.244.10.in-addr.arpa.", dns.TypePTR, "NOERROR db.default.svc.cluster.local.", "the shortest of several names"},
	} {
		a := s.Answer(t.Context(), new(dns.Msg).SetQuestion(test.name, test.qtype))
		if got := text(a); got != test.want {
			t.Errorf("%s %s: got %q, want %q (%s)", dns.TypeToString[test.qtype], test.name, got, test.want, test.why)
		}
		if a.Rcode == dns.RcodeNameError && len(a.Ns) != 1 {
			t.Errorf("%s: no SOA: resolvers could not keep the answer (RFC 2308)", test.name)
		}
		if _, err := a.Pack(); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// text is a message's code and data, addresses sorted.
func text(a *dns.Msg) string {
	out := []string{dns.RcodeToString[a.Rcode]}
	var ips []string
	for _, rr := range a.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			ips = append(ips, rr.A.String())
		case *dns.AAAA:
			ips = append(ips, rr.AAAA.String())
		case *dns.CNAME:
			out = append(out, rr.Target)
		case *dns.PTR:
			out = append(out, rr.Ptr)
		case *dns.SRV:
			out = append(out, rr.Target+":"+itoa(rr.Port))
		}
	}
	slices.Sort(ips)
	return strings.Join(append(out, ips...), " ")
}

func itoa(n uint16) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), n).String()[len("0.0.0.0:"):]
}

func TestSRVBringsAddresses(t *testing.T) {
	a := testServer().Answer(t.Context(), new(dns.Msg).SetQuestion("_http._tcp.db.default.svc.cluster.local.", dns.TypeSRV))
	if len(a.Extra) != 1 || a.Extra[0].(*dns.A).A.String() != "10.244.0.1" {
		t.Errorf("additional records: %v", a.Extra)
	}
}

// Clients take the first address, so its place must not be one endpoint's.
func TestAnswersAreShuffled(t *testing.T) {
	s, first := testServer(), make(map[string]int)
	for range 300 {
		a := s.Answer(t.Context(), new(dns.Msg).SetQuestion("db.default.svc.cluster.local.", dns.TypeA))
		first[a.Answer[0].(*dns.A).A.String()]++
	}
	if len(first) != 3 {
		t.Errorf("first answers: %v, want each of three now and then", first)
	}
}

// Over real sockets: long answers are cut in UDP and whole in TCP; garbage and
// odd questions do not disturb.
func TestServe(t *testing.T) {
	s := testServer()
	many := Record{}
	for i := range 200 {
		many.Addrs = append(many.Addrs, netip.AddrFrom4([4]byte{10, 244, 1, byte(i)}))
	}
	s.SetTable(NewTable([]string{"cluster.local"}, map[string]Record{"many.cluster.local": many}))
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.ServeUDP(udp) }()
	go func() { ended <- s.ServeTCP(tcp) }()

	junk, err := net.Dial("udp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	junk.Write([]byte("\x00\x01\xff\xff not a question"))
	junk.Close()

	q := new(dns.Msg).SetQuestion("many.cluster.local.", dns.TypeA)
	a, err := dns.Exchange(q, udp.LocalAddr().String())
	if err != nil || !a.Truncated || len(a.Answer) == 200 {
		t.Errorf("UDP: %v, want a truncated answer of at most 512 bytes", err)
	}
	client := dns.Client{Net: "tcp"}
	a, _, err = client.Exchange(q, tcp.Addr().String())
	if err != nil || a.Truncated || len(a.Answer) != 200 {
		t.Errorf("TCP: %v, want 200 addresses", err)
	}
	two := new(dns.Msg).SetQuestion("many.cluster.local.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	if a, err := dns.Exchange(two, udp.LocalAddr().String()); err == nil && a.Rcode == dns.RcodeSuccess {
		t.Error("two questions were answered as one")
	}
	udp.Close()
	tcp.Close()
	for range 2 {
		if err := <-ended; err != nil {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestForwardIsBounded(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	s := &Server{MaxForward: 1, Forward: func(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
		close(entered)
		<-release
		return new(dns.Msg).SetReply(q), nil
	}}
	done := make(chan *dns.Msg)
	go func() { done <- s.Answer(t.Context(), new(dns.Msg).SetQuestion("a.example.", dns.TypeA)) }()
	<-entered
	if a := s.Answer(t.Context(), new(dns.Msg).SetQuestion("b.example.", dns.TypeA)); a.Rcode != dns.RcodeServerFailure {
		t.Errorf("a question above the limit: %s, want SERVFAIL at once", dns.RcodeToString[a.Rcode])
	}
	close(release)
	if a := <-done; a.Rcode != dns.RcodeSuccess {
		t.Errorf("the first: %s", dns.RcodeToString[a.Rcode])
	}
}

func TestWith(t *testing.T) {
	var none *Table
	if r, ok := none.With("a.b", Record{Addrs: addrs("10.0.0.1")}).Lookup("A.b."); !ok || len(r.Addrs) != 1 {
		t.Error("added to no table")
	}
	base := NewTable([]string{"z"}, map[string]Record{"x.z": {}})
	more := base.With("a.b", Record{})
	if _, ok := base.Lookup("a.b"); ok {
		t.Error("With changed its receiver")
	}
	if _, ok := more.Lookup("x.z"); !ok || !more.inZone("y.z") {
		t.Error("With lost names or zones")
	}
}

// FuzzAnswer: whatever a pod sends is answered with something that packs.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.default.svc.cluster.local.", "a.wild.example.", "x."} {
		wire, _ := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		f.Add(wire)
	}
	s := testServer()
	f.Fuzz(func(t *testing.T, wire []byte) {
		q := new(dns.Msg)
		if q.Unpack(wire) != nil {
			return
		}
		a := s.Answer(context.Background(), q)
		if a.Id != q.Id || !a.Response {
			t.Errorf("the answer to %v is %v", q, a)
		}
		if _, err := a.Pack(); err != nil {
			t.Errorf("the answer to %v does not pack: %v", q, err)
		}
	})
}
