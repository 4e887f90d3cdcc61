package listen

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

func TestMatchInEnvoysOrder(t *testing.T) {
	chains := []*Chain{
		{Name: "any", Match: Match{}},
		{Name: "port", Match: Match{DestinationPort: 9080}},
		{Name: "port-tls", Match: Match{DestinationPort: 9080, Transport: TLS}},
		{Name: "port-tls-istio", Match: Match{DestinationPort: 9080, Transport: TLS, ALPN: []string{"istio-http/1.1", "istio-http/1.0"}}},
		{Name: "net", Match: Match{DestinationPort: 70, Destinations: prefixes("10.0.0.0/8")}},
		{Name: "host", Match: Match{DestinationPort: 70, Destinations: prefixes("10.1.1.1/32")}},
		{Name: "sni", Match: Match{DestinationPort: 443, ServerNames: []string{"a.example.com"}}},
		{Name: "sni-wild", Match: Match{DestinationPort: 443, ServerNames: []string{"*.example.com"}}},
		{Name: "sni-wilder", Match: Match{DestinationPort: 443, ServerNames: []string{"*.com"}}},
		{Name: "local", Match: Match{DestinationPort: 71, SourceType: SameIPOrLoopback}},
		{Name: "external", Match: Match{DestinationPort: 71, SourceType: ExternalSource}},
		{Name: "source", Match: Match{DestinationPort: 72, Sources: prefixes("192.168.0.0/16")}},
		{Name: "source-port", Match: Match{DestinationPort: 72, Sources: prefixes("192.168.0.0/16"), SourcePorts: []uint16{1000}}},
		{Name: "direct", Match: Match{DestinationPort: 73, DirectSources: prefixes("172.16.0.0/12")}},
	}
	m, err := NewMatcher(chains, nil)
	if err != nil {
		t.Fatal(err)
	}
	base := Subject{Destination: netip.MustParseAddrPort("10.9.9.9:1"), Transport: RawBuffer, Source: netip.MustParseAddrPort("10.2.2.2:1000"), DirectSource: netip.MustParseAddr("10.2.2.2")}
	for _, test := range []struct {
		why  string
		edit func(*Subject)
		want string
	}{
		{"nothing more specific", func(s *Subject) {}, "any"},
		{"port", func(s *Subject) { s.Destination = netip.MustParseAddrPort("10.9.9.9:9080") }, "port"},
		{"transport protocol", func(s *Subject) { s.Destination, s.Transport = netip.MustParseAddrPort("10.9.9.9:9080"), TLS }, "port-tls"},
		{"application protocol, any of the client's", func(s *Subject) {
			s.Destination, s.Transport, s.ALPN = netip.MustParseAddrPort("10.9.9.9:9080"), TLS, []string{"istio", "istio-http/1.1"}
		}, "port-tls-istio"},
		{"a plain connection's protocol does not make it TLS", func(s *Subject) {
			s.Destination, s.ALPN = netip.MustParseAddrPort("10.9.9.9:9080"), []string{"http/1.1"}
		}, "port"},
		{"longer prefix", func(s *Subject) { s.Destination = netip.MustParseAddrPort("10.1.1.1:70") }, "host"},
		{"shorter prefix", func(s *Subject) { s.Destination = netip.MustParseAddrPort("10.1.1.2:70") }, "net"},
		{"what an earlier step has chosen is not taken back", func(s *Subject) { s.Destination = netip.MustParseAddrPort("11.1.1.2:70") }, ""},
		{"exact name", func(s *Subject) {
			s.Destination, s.SNI = netip.MustParseAddrPort("10.9.9.9:443"), "a.example.com"
		}, "sni"},
		{"longest suffix", func(s *Subject) {
			s.Destination, s.SNI = netip.MustParseAddrPort("10.9.9.9:443"), "x.b.example.com"
		}, "sni-wild"},
		{"shorter suffix", func(s *Subject) { s.Destination, s.SNI = netip.MustParseAddrPort("10.9.9.9:443"), "example.com" }, "sni-wilder"},
		{"no name", func(s *Subject) { s.Destination = netip.MustParseAddrPort("10.9.9.9:443") }, ""},
		{"from here", func(s *Subject) {
			s.Destination, s.Source = netip.MustParseAddrPort("10.9.9.9:71"), netip.MustParseAddrPort("10.9.9.9:5")
		}, "local"},
		{"from loopback", func(s *Subject) {
			s.Destination, s.Source = netip.MustParseAddrPort("10.9.9.9:71"), netip.MustParseAddrPort("127.0.0.1:5")
		}, "local"},
		{"from elsewhere", func(s *Subject) { s.Destination = netip.MustParseAddrPort("10.9.9.9:71") }, "external"},
		{"source", func(s *Subject) {
			s.Destination, s.Source = netip.MustParseAddrPort("10.9.9.9:72"), netip.MustParseAddrPort("192.168.1.1:7")
		}, "source"},
		{"source port", func(s *Subject) {
			s.Destination, s.Source = netip.MustParseAddrPort("10.9.9.9:72"), netip.MustParseAddrPort("192.168.1.1:1000")
		}, "source-port"},
		{"direct source", func(s *Subject) {
			s.Destination, s.DirectSource = netip.MustParseAddrPort("10.9.9.9:73"), netip.MustParseAddr("172.16.1.1")
		}, "direct"},
		{"v4 in v6 is v4", func(s *Subject) {
			s.Destination = netip.AddrPortFrom(netip.MustParseAddr("::ffff:10.1.1.1"), 70)
		}, "host"},
	} {
		s := base
		test.edit(&s)
		got := ""
		if c := m.Match(&s); c != nil {
			got = c.Name
		}
		if got != test.want {
			t.Errorf("%s: chain %q, want %q", test.why, got, test.want)
		}
	}
	m, _ = NewMatcher(chains[6:7], &Chain{Name: "default"})
	if c := m.Match(&base); c == nil || c.Name != "default" {
		t.Errorf("without a match: %v, want the default chain", c)
	}
}

func TestChainsThatMatchTheSameAreRefused(t *testing.T) {
	_, err := NewMatcher([]*Chain{{Name: "a", Match: Match{DestinationPort: 1}}, {Name: "b", Match: Match{DestinationPort: 1}}}, nil)
	if err == nil || !strings.Contains(err.Error(), `filter chain "b": has the same matching rules as filter chain "a"`) {
		t.Errorf("error %v", err)
	}
	_, err = NewMatcher([]*Chain{{Name: "a", Match: Match{ServerNames: []string{"a.*.b"}}}}, nil)
	if err == nil || !strings.Contains(err.Error(), `server_names: found "a.*.b"`) {
		t.Errorf("error %v", err)
	}
}

// hello is what Go's TLS client says first.
func hello(t testing.TB, sni string, alpn ...string) []byte {
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		tls.Client(a, &tls.Config{ServerName: sni, NextProtos: alpn, InsecureSkipVerify: sni == ""}).Handshake()
		a.Close()
	}()
	buf := make([]byte, 8192)
	n := 0
	for {
		m, err := b.Read(buf[n:])
		n += m
		if _, _, e := parseHello(buf[:n]); err != nil || e != errMore {
			return buf[:n]
		}
	}
}

func TestClientHello(t *testing.T) {
	for _, test := range []struct {
		sni  string
		alpn []string
	}{
		{"outbound_.80_._.httpbin.default.svc.cluster.local", []string{"istio-http/1.1", "istio"}},
		{"Example.COM", nil},
		{"", []string{"h2"}},
	} {
		b := hello(t, test.sni, test.alpn...)
		for i := range b { // every cut asks for more
			if _, enough, err := parseHello(b[:i]); err != errMore || enough <= i || enough > len(b) {
				t.Fatalf("%d of %d bytes: %v until there are %d, want %v", i, len(b), err, enough, errMore)
			}
		}
		h, _, err := parseHello(b)
		if err != nil || h.SNI != strings.ToLower(test.sni) || !slices.Equal(h.ALPN, test.alpn) {
			t.Errorf("%+v: %+v, %v", test, h, err)
		}
		var split []byte // the same in two records
		body := b[5:]
		for _, part := range [][]byte{body[:40], body[40:]} {
			split = append(split, 22, 3, 1, byte(len(part)>>8), byte(len(part)))
			split = append(split, part...)
		}
		if again, _, err := parseHello(split); err != nil || again.SNI != h.SNI {
			t.Errorf("in two records: %+v, %v", again, err)
		}
	}
	for _, plain := range []string{"GET / HTTP/1.1\r\n", "\x16\x02\x00", "\x16\x03\x01\x00\x00", "\x15\x03\x01\x00\x02\x01\x00", "\x16\x03\x01\x00\x04\x02\x00\x00\x00"} {
		if _, _, err := parseHello([]byte(plain)); err != errNotTLS {
			t.Errorf("%q: %v, want %v", plain, err, errNotTLS)
		}
	}
}

// A hello may come in as many records as it has bytes, each in a segment of its own. That costs its sender more than us.
func TestHelloInManyRecords(t *testing.T) {
	const size = 12_000
	var b []byte
	for i, c := range append([]byte{1, 0, size >> 8, size & 0xff}, make([]byte, size)...) {
		if b = append(b, 22, 3, 1, 0, 1, c); i == size {
			break // some are missing
		}
	}
	looks, enough := 0, 0
	for n := range b {
		if n < enough {
			continue
		}
		var err error
		looks++
		if _, enough, err = parseHello(b[:n]); err != errMore {
			t.Fatalf("%d of %d bytes: %v, want %v", n, len(b), err, errMore)
		}
	}
	if looks > 200 {
		t.Errorf("%d looks at %d bytes, want fewer", looks, len(b))
	}
	if n := testing.AllocsPerRun(1, func() { parseHello(b) }); n > 20 {
		t.Errorf("one look allocates %v times, want few", n)
	}
}

func FuzzClientHello(f *testing.F) {
	f.Add(hello(f, "a.b", "h2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, enough, err := parseHello(b)
		if err == nil && len(h.SNI) > 255 {
			t.Errorf("a name of %d bytes", len(h.SNI))
		}
		if err == errMore && len(b) > 2*(maxHello+5)+16<<10 {
			t.Errorf("%d bytes are not enough", len(b))
		}
		if err == errMore && enough <= len(b) {
			t.Errorf("%d bytes are not enough, and %d are", len(b), enough)
		}
		least := 0
		for i := range b[:min(len(b), 2<<10)] {
			switch _, n, err := parseHello(b[:i]); {
			case err == nil && i < least:
				t.Fatalf("%d of %d bytes are a hello, and there were to be %d", i, len(b), least)
			case err == errMore:
				least = max(least, n)
			}
		}
		if err == nil && len(b) < least {
			t.Fatalf("%d bytes are a hello, and there were to be %d", len(b), least)
		}
	})
}

// FuzzHelloAsCryptoTLS: what crypto/tls reads of a hello that it takes is what we read.
func FuzzHelloAsCryptoTLS(f *testing.F) {
	f.Add(hello(f, "a.b", "h2", "http/1.1"))
	f.Add(hello(f, "Some.Longer.Name.example"))
	f.Add(hello(f, "", "istio"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var peer *tls.ClientHelloInfo
		server := tls.Server(&said{Reader: bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			peer = h
			return nil, io.ErrUnexpectedEOF // that is all we want to know
		}})
		if _ = server.Handshake(); peer == nil || len(peer.ServerName) > 255 || len(peer.SupportedProtos) > 64 {
			return
		}
		h, _, err := parseHello(b)
		if err != nil {
			t.Fatalf("crypto/tls reads %q %q, and we say %v: %x", peer.ServerName, peer.SupportedProtos, err, b)
		}
		if h.SNI != lowerASCII([]byte(peer.ServerName)) || !slices.Equal(h.ALPN, peer.SupportedProtos) {
			t.Fatalf("we read %q %q, crypto/tls %q %q: %x", h.SNI, h.ALPN, peer.ServerName, peer.SupportedProtos, b)
		}
	})
}

// said is a connection whose other end has said something and waits.
type said struct {
	net.Conn
	io.Reader
}

func (s *said) Read(b []byte) (int, error)  { return s.Reader.Read(b) }
func (s *said) Write(b []byte) (int, error) { return len(b), nil }
func (s *said) Close() error                { return nil }

func TestHTTPPreface(t *testing.T) {
	for _, test := range []struct {
		in, want string
		more     bool
	}{
		{"GET / HTTP/1.1\r\n", http11, false},
		{"GET / HTTP/1.0\r\nX", http10, false},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", h2c, false},
		{"PRI * HTTP/2.0\r\n", "", true},
		{"GE", "", true},
		{"GET /some", "", true},
		{"EHLO x\r\n", "", false},
		{"\x00\x01", "", false},
		{"GET / FTP\r\n", "", false},
		{"SSH-2.0-OpenSSH\r\n", "", false},
	} {
		if got, more := httpProtocol([]byte(test.in)); got != test.want || more != test.more {
			t.Errorf("%q: %q, more %v; want %q, %v", test.in, got, more, test.want, test.more)
		}
	}
}

func TestInspectorPorts(t *testing.T) {
	i := &Inspector{OffFor: func(port uint16) bool { return port == 3306 }}
	for port, want := range map[uint16]bool{80: false, 3306: true} {
		if i.Disabled(port) != want {
			t.Errorf("port %d: disabled %v, want %v", port, !want, want)
		}
	}
	if (&Inspector{}).Disabled(80) {
		t.Error("nothing says so, and it is off")
	}
	if !(*Inspector)(nil).Disabled(80) {
		t.Error("there is none, and it runs")
	}
}
