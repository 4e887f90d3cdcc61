package foreign

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/proxy/proxyproto"
	"github.com/mallamesh/malla/test/script/mesh"
)

// An ask is a request of a story: HTTP/1.1 as it stands on the wire, on a connection of its own, and before that lines that say how.
//
//	as ID                        over mutual TLS of the mesh, as somebody of it
//	tls NAME [cert=WHO] [by=CA] [alpn=A,B] [cipher=C]   over TLS, for a server of that name, without a certificate or with one; of version 1.2, by that cipher
//	from ADDRESS                 by another client, which a PROXY header names
//	times N                      N times, one after the other; the answer is who answered at all
//	count N                      and how often
//	at once N held M             one, and N-1 together when a server holds that; of all, M are answered when all others are, by servers that hold
//	logged                       with what the proxy writes to its access log
//	counted STATISTIC            with what the proxy counts under that name
//	mirrored SERVER              with what a server has got meanwhile, which is not the one that answers
//	body TEXT                    with a body
//	bytes TEXT                   not HTTP, but a line
//	silence                      nothing: the server speaks first
//
// {10.244.0.7:80} in it is the port of the server that stands for that address.
type ask struct {
	as             string
	name           string
	cert, by       string
	cipher         uint16
	alpn           []string
	tls            bool
	from           netip.Addr
	times, held    int
	counts, logged bool
	raw, silent    bool
	mirror, body   string
	counted        []string
	text           string
}

func readAsk(text string) (*ask, error) {
	a := &ask{}
	for {
		line, rest, more := strings.Cut(text, "\n")
		words := strings.Fields(line)
		if len(words) == 0 {
			return a, nil
		}
		value := strings.TrimSpace(strings.TrimPrefix(line, words[0]))
		var err error
		switch words[0] {
		case "as":
			a.as = value
		case "tls":
			err = a.readTLS(words[1:])
		case "from":
			a.from, err = netip.ParseAddr(value)
		case "times", "count":
			a.counts = words[0] == "count"
			a.times, err = strconv.Atoi(value)
		case "at":
			a.counts = true
			_, err = fmt.Sscanf(line, "at once %d held %d", &a.times, &a.held)
		case "logged":
			a.logged = true
		case "counted":
			a.counted = append(a.counted, value)
		case "body":
			a.body = value
		case "mirrored":
			a.mirror = value
		case "bytes":
			a.raw, a.text = true, value+"\n"
			return a, nil
		case "silence":
			a.silent = true
			return a, nil
		default:
			if a.body != "" {
				text += fmt.Sprintf("\ncontent-length: %d", len(a.body))
			}
			a.text = text + "\n\n" + a.body
			return a, nil
		}
		if err != nil || !more {
			return nil, fmt.Errorf("%q: %v", line, err)
		}
		text = rest
	}
}

func (a *ask) readTLS(words []string) error {
	if len(words) == 0 {
		return fmt.Errorf("want a name")
	}
	a.tls, a.name, a.alpn = true, words[0], []string{"http/1.1"}
	for _, w := range words[1:] {
		switch key, value, _ := strings.Cut(w, "="); key {
		case "cert":
			a.cert, a.by = value, value
		case "by":
			a.by = value
		case "alpn":
			a.alpn = strings.Split(value, ",")
		case "cipher":
			for _, c := range tls.CipherSuites() {
				if c.Name == value {
					a.cipher = c.ID
				}
			}
			if a.cipher == 0 {
				return fmt.Errorf("%q is no cipher of crypto/tls", value)
			}
		default:
			return fmt.Errorf("%q is not known", w)
		}
	}
	return nil
}

// ask sends what is asked, and returns the answers as text.
func (p *play) ask(side int, to place, a *ask) string {
	before := len(p.proxies[side].Log())
	if a.mirror != "" {
		p.server(side, a.mirror).got.Store(nil)
	}
	var text string
	switch {
	case a.held > 0:
		text = p.atOnce(side, to, a)
	case a.times > 0:
		var all []string
		for range a.times {
			all = append(all, brief(p.one(side, to, a)))
		}
		text = summary(all, a.counts)
	default:
		text = p.one(side, to, a)
	}
	if a.mirror != "" {
		mesh.Until(p.t, 10*time.Second, "a request to "+a.mirror, func() error {
			got := p.server(side, a.mirror).got.Load()
			if got == nil {
				return fmt.Errorf("none")
			}
			text += *got
			return nil
		})
	}
	for _, name := range a.counted {
		text += p.counted(side, name)
	}
	if a.logged {
		text += p.logged(side, before)
	}
	return p.withoutPorts(side, text)
}

// atOnce sends all together, and lets servers answer those that are held when the others are.
func (p *play) atOnce(side int, to place, a *ask) string {
	holders := p.holders(side)
	for _, s := range holders {
		s.hold()
	}
	answers := make(chan string, a.times)
	send := func() { answers <- brief(p.one(side, to, a)) }
	go send()
	// What comes while the first connection is made waits for it, whatever there is room for.
	mesh.Until(p.t, 10*time.Second, "a server that holds the first", func() error {
		if !slices.ContainsFunc(p.holders(side), func(s *standIn) bool { return s.holding.Load() > 0 }) {
			return fmt.Errorf("none")
		}
		return nil
	})
	for range a.times - 1 {
		go send()
	}
	var all []string
	for len(all) < a.times {
		if len(all) == a.times-a.held {
			for _, s := range holders {
				s.letGo()
			}
		}
		all = append(all, <-answers)
	}
	return summary(all, true)
}

// holders are the servers that hold.
func (p *play) holders(side int) (out []*standIn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.servers {
		if key.side == side && s.is("holds") {
			out = append(out, s)
		}
	}
	return out
}

// brief is the status of an answer and who gave it.
func brief(answer string) string {
	status, who, how := "", "", ""
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if before, _, ok := strings.Cut(line, " got "); ok {
			who = " from " + before
		}
		if n, err := strconv.Atoi(line); err == nil && n >= 100 {
			status = line
		}
		if strings.HasPrefix(line, "mutual TLS with ") {
			how = " in mutual TLS"
		}
	}
	if status+who == "" {
		return strings.TrimSpace(answer)
	}
	return strings.TrimSpace(status + who + how)
}

func summary(all []string, counts bool) string {
	slices.Sort(all)
	var out strings.Builder
	for i := 0; i < len(all); {
		n := 1
		for i+n < len(all) && all[i+n] == all[i] {
			n++
		}
		if counts {
			fmt.Fprintf(&out, "%d times ", n)
		}
		fmt.Fprintln(&out, all[i])
		i += n
	}
	return out.String()
}

// one sends one request, and returns the answer as text. How a connection is refused, and in which words, is a matter of
// the moment.
func (p *play) one(side int, to place, a *ask) string {
	c, with, err := p.connect(side, to, a)
	if err != nil {
		return "no connection\n"
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	text := p.withPorts(side, a.text)
	if !a.raw {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	if _, err := io.WriteString(c, text); err != nil {
		return with + "no answer\n"
	}
	from := bufio.NewReader(c)
	if a.raw || a.silent {
		line, err := from.ReadString('\n')
		if err != nil {
			return with + "no answer\n"
		}
		return with + line
	}
	method, _, _ := strings.Cut(text, " ")
	r, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		return with + "no answer\n"
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error() + "\n"
	}
	out := fmt.Sprintf("%s%d\n%s", with, r.StatusCode, headers(r.Header))
	if len(body) > 0 {
		out += strings.TrimRight(string(body), "\n") + "\n"
	}
	return out
}

// connect opens a connection for a request.
func (p *play) connect(side int, to place, a *ask) (net.Conn, string, error) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", p.listeners[to.listener][side]), 10*time.Second)
	if err != nil {
		return nil, "", err
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := p.announce(c, to, a); err != nil {
		c.Close()
		return nil, "", err
	}
	var config *tls.Config
	switch {
	case a.as != "":
		// The mesh's names are in URIs, which nobody but a mesh looks at: the chain alone is looked at here.
		verify := func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots(authority(p.t))})
			return err
		}
		config = &tls.Config{Certificates: []tls.Certificate{*p.certificate(a.as)}, InsecureSkipVerify: true, VerifyConnection: verify,
			NextProtos: []string{"istio-http/1.1", "istio", "http/1.1"}, ServerName: "story.test", MinVersion: tls.VersionTLS12}
		if a.name != "" {
			config.ServerName = a.name
		}
	case a.tls:
		config = &tls.Config{InsecureSkipVerify: true, ServerName: a.name, NextProtos: a.alpn, MinVersion: tls.VersionTLS12} // who it is, the answer says
		if a.cipher != 0 {
			config.CipherSuites, config.MaxVersion = []uint16{a.cipher}, tls.VersionTLS12
		}
		if a.cert != "" {
			pair := p.keyPair(a.cert, a.by) // whomever the server asks for: a client that chooses shows none
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
	default:
		return c, "", nil
	}
	t := tls.Client(c, config)
	if err := t.Handshake(); err != nil {
		c.Close()
		return nil, "", err
	}
	peer := named(t.ConnectionState().PeerCertificates[0])
	if a.as != "" {
		return t, "mutual TLS with " + peer + "\n", nil
	}
	return t, "TLS with " + peer + "\n", nil
}

// announce says where a connection that would be captured comes from, and where it was going to.
func (p *play) announce(c net.Conn, to place, a *ask) error {
	from := a.from
	if !from.IsValid() && to.listener == outbound {
		from = p.views[0].Proxy.IPs[0]
	}
	if !from.IsValid() && to.listener == inbound {
		from = netip.AddrFrom4([4]byte{10, 244, 9, 9}) // somebody else of the mesh
	}
	if !from.IsValid() {
		return nil
	}
	goes := to.to
	if !goes.IsValid() {
		goes = netip.MustParseAddrPort("192.0.2.80:80")
	}
	h := proxyproto.Header{Version: proxyproto.V1, Source: netip.AddrPortFrom(from, 40000), Destination: goes}
	_, err := c.Write(proxyproto.Append(nil, &h))
	return err
}

var placeholder = regexp.MustCompile(`\{[^{} \n]+:\d+\}`)

// withPorts puts the ports of servers here in the place of their addresses.
func (p *play) withPorts(side int, text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(s string) string {
		return strconv.Itoa(int(p.server(side, s[1:len(s)-1]).port))
	})
}

// withoutPorts leaves out what differs from run to run.
func (p *play) withoutPorts(side int, text string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, s := range p.servers {
		if key.side == side {
			text = strings.ReplaceAll(text, fmt.Sprintf("127.0.0.1:%d", s.port), key.name)
			text = strings.ReplaceAll(text, fmt.Sprintf("localhost:%d", s.port), "localhost:{"+key.name+"}")
		}
	}
	return text
}

// logged waits for the line that a proxy writes of a request, and leaves out what differs from run to run.
func (p *play) logged(side, before int) string {
	line := ""
	_, err := mesh.Wait(10*time.Second, func() error {
		var ok bool
		if line, _, ok = strings.Cut(p.proxies[side].Log()[before:], "\n"); !ok {
			return fmt.Errorf("no line")
		}
		return nil
	})
	if err != nil {
		return "not logged\n"
	}
	return "logged " + hideMoments(line) + "\n"
}

// counted is what a proxy says of a statistic. Names that a mesh gives clusters end with a semicolon, by which Istio's bootstrap has Envoy cut
// them out of the statistics' names; ours has cut them already.
func (p *play) counted(side int, name string) string {
	const end = ";."
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(name), regexp.QuoteMeta(end), `;?\.`) + "$"
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/stats?filter=%s", p.admin[side], url.QueryEscape(pattern)))
	if err != nil {
		return err.Error() + "\n"
	}
	defer r.Body.Close()
	text, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil {
		return err.Error() + "\n"
	}
	if len(text) == 0 {
		return "not counted: " + name + "\n"
	}
	return "counted " + strings.ReplaceAll(string(text), end, ".")
}

var moments = []struct {
	is  *regexp.Regexp
	say string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z`), "(time)"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "(id)"},
	{regexp.MustCompile(`("duration":|"upstream_service_time":)"?\d+"?`), `$1(ms)`},
	{regexp.MustCompile(`(" \d+ \d+) \d+ (\d+|-) "`), `$1 (ms) (ms) "`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:(port)"},
}

func hideMoments(line string) string {
	for _, m := range moments {
		line = m.is.ReplaceAllString(line, m.say)
	}
	return line
}
