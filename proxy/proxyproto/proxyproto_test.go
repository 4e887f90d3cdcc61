package proxyproto

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	peer "github.com/pires/go-proxyproto"

	"github.com/mallamesh/malla/proxy/access"
)

func TestParse(t *testing.T) {
	v2 := signature2 + "\x21\x11\x00\x0c" + "\x0a\x00\x00\x01\x0a\x00\x00\x02\x10\x00\x00\x50"
	for _, test := range []struct{ in, source, err string }{
		{"PROXY TCP4 10.0.0.1 10.0.0.2 4096 80\r\nGET", "10.0.0.1:4096", ""},
		{"PROXY TCP6 1::2 1::3 1 2\r\n", "[1::2]:1", ""},
		{"PROXY UNKNOWN\r\n", "", ""},
		{"PROXY UNKNOWN what ever 1 2 3 4\r\n", "", ""},         // the rest of the line must be ignored
		{"PROXY TCP4 10.0.0.1 10.0.0.2 4096 80", "", "more"},    // no end yet
		{"PROXY TCP4 10.0.0.1 10.0.0.2 4096\r\n", "", "bad"},    // too few
		{"PROXY TCP4 1::2 1::3 1 2\r\n", "", "bad"},             // another family
		{"PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n", "", "bad"}, // no port
		{"PROXY TCP4 224.0.0.1 10.0.0.2 1 2\r\n", "", "bad"},    // no client can have this
		{"PROXY  TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "", "bad"},    // two spaces
		{"PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n", "", "bad"},
		{"GET / HTTP/1.1\r\nHost: a\r\n", "", "bad"},
		{"GET", "", "more"},
		{v2, "10.0.0.1:4096", ""},
		{v2[:20], "", "more"},
		{strings.Replace(v2, "\x21\x11\x00\x0c", "\x20\x00\x00\x0c", 1), "", ""},    // LOCAL
		{strings.Replace(v2, "\x21\x11\x00\x0c", "\x21\x11\x00\x0b", 1), "", "bad"}, // too short for two addresses
		{strings.Replace(v2, "\x21\x11\x00\x0c", "\x31\x11\x00\x0c", 1), "", "bad"}, // version 3
		{strings.Replace(v2, "\x21\x11\x00\x0c", "\x21\x31\x00\xd8", 1), "", "bad"}, // a Unix socket
		{strings.Replace(v2, "\x21\x11\x00\x0c", "\x21\x11\x00\x10", 1) + "\x04\x00\x01x", "10.0.0.1:4096", ""},
	} {
		h, n, err := Parse([]byte(test.in))
		got := ""
		if h.Source.IsValid() && err == nil {
			got = h.Source.String()
		}
		want := map[string]error{"": nil, "more": ErrMore, "bad": ErrMalformed}[test.err]
		if err != want || got != test.source || err == nil && n == 0 {
			t.Errorf("Parse(%q) = %s, %d, %v; want %s, %v", test.in, got, n, err, test.source, want)
		}
	}
}

func TestAppend(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:80")
	six := netip.MustParseAddrPort("[1::2]:3")
	for _, h := range []Header{
		{Version: V1, Source: a, Destination: b}, {Version: V2, Source: a, Destination: b},
		{Version: V1, Source: six, Destination: six}, {Version: V2, Source: six, Destination: six, TLVs: []byte("\x04\x00\x01x")},
		{Version: V1, Local: true}, {Version: V2, Local: true},
	} {
		text := Append(nil, &h)
		got, n, err := Parse(text)
		if err != nil || n != len(text) || got.Source != h.Source || got.Destination != h.Destination || got.Local != h.Local || !bytes.Equal(got.TLVs, h.TLVs) {
			t.Errorf("%+v comes back as %+v, %v", h, got, err)
		}
	}
	mixed := Append(nil, &Header{Version: V1, Source: a, Destination: six})
	if string(mixed) != "PROXY UNKNOWN\r\n" {
		t.Errorf("addresses of two families: %q", mixed)
	}
}

func TestSenderPassesExtensions(t *testing.T) {
	s := Sender{Version: V2, Added: []Added{{TLV: TLV{0xe0, []byte("own")}}}, Passed: map[byte]bool{0xe1: true, 0xe0: true}}
	came := AppendTLV(AppendTLV(AppendTLV(nil, TLV{0xe1, []byte("one")}), TLV{0xe2, []byte("two")}), TLV{0xe0, []byte("theirs")})
	a := netip.MustParseAddrPort("10.0.0.1:1000")
	h, _, err := Parse(s.Header(a, a, came, nil, nil))
	list, _ := SplitTLVs(h.TLVs)
	if err != nil || len(list) != 2 || string(list[0].Value) != "own" || string(list[1].Value) != "one" {
		t.Errorf("extensions %q, %v; want our own, and those of the client that are named and do not clash", list, err)
	}
}

// FuzzParse compares with an independent reader of the protocol: a client whose address we
// read differently could pass for another.
func FuzzParse(f *testing.F) {
	f.Add([]byte("PROXY TCP4 10.0.0.1 10.0.0.2 4096 80\r\nGET / HTTP/1.1\r\n"))
	f.Add([]byte("PROXY TCP6 1::2 1::3 1 2\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(signature2 + "\x21\x11\x00\x0c\x0a\x00\x00\x01\x0a\x00\x00\x02\x10\x00\x00\x50rest"))
	f.Add([]byte(signature2 + "\x21\x21\x00\x27" + strings.Repeat("0123456789", 4)))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, n, err := Parse(in)
		if err != nil {
			if n != 0 {
				t.Fatalf("an error with a length of %d", n)
			}
			if errors.Is(err, ErrMore) && len(in) > fixed+1<<16 {
				t.Fatalf("asks for more after %d bytes", len(in))
			}
			return // refusing is always safe
		}
		SplitTLVs(h.TLVs)
		r := bufio.NewReader(bytes.NewReader(in))
		theirs, err := peer.Read(r)
		if h.Local {
			return // they check what we are told to ignore
		}
		if err != nil {
			t.Fatalf("we read %+v, the peer %v: %q", h, err, in)
		}
		rest := r.Buffered()
		if whole := len(in) - n; whole < 4096 && len(in) <= 4096 && rest != whole {
			t.Fatalf("we leave %d bytes, the peer %d: %q", whole, rest, in)
		}
		if got := peerAddr(theirs.SourceAddr); got != h.Source {
			t.Fatalf("we read source %v, the peer %v: %q", h.Source, got, in)
		}
		if got := peerAddr(theirs.DestinationAddr); got != h.Destination {
			t.Fatalf("we read destination %v, the peer %v: %q", h.Destination, got, in)
		}
	})
}

func peerAddr(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return ap
}

func TestPolicies(t *testing.T) {
	client := AppendTLV(AppendTLV(nil, TLV{1, []byte("theirs")}), TLV{2, []byte("other")})
	told, err := access.Compile("told")
	if err != nil {
		t.Fatal(err)
	}
	more := []Added{{TLV: TLV{Type: 3}, Format: told}, {TLV: TLV{1, []byte("ours")}}}
	for _, test := range []struct {
		p    Policy
		had  bool
		want string
	}{
		{IfNone, true, "1theirs 2other "},
		{IfNone, false, "1ours 3told "},
		{Overwrite, true, "1ours 3told 2other "},
		{Add, true, "1theirs 2other 1ours 3told "},
	} {
		came := client
		if !test.had {
			came = nil
		}
		list, err := SplitTLVs(test.p.Merge(came, test.had, more, &access.Record{}))
		var got strings.Builder
		for _, x := range list {
			fmt.Fprintf(&got, "%d%s ", x.Type, x.Value)
		}
		if err != nil || got.String() != test.want {
			t.Errorf("policy %d of a client with a header (%v) makes %s, %v; want %s", test.p, test.had, got.String(), err, test.want)
		}
	}
}
