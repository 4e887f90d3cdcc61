package peer

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// patience bounds every wait of a peer.
const patience = 20 * time.Second

// An Upstream is a server behind one proxy.
type Upstream struct {
	script *scenario.Upstream
	l      net.Listener
	pki    *PKI
	dir    string // of the scenario's files

	packets net.PacketConn // of a name server
	socket  net.Listener   // on a file of the scenario's directory too

	mu     sync.Mutex
	seen   []string       // guarded by mu: the requests, or what came over TCP
	answer map[string]int // guarded by mu: answers given, by their path=
	open   map[net.Conn]bool
	closed bool
}

// ok is what an upstream answers if its scenario does not care.
var ok = scenario.Step{Text: "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"}

// Serve starts an upstream at an address of its own on ip. dir has the scenario's files.
func Serve(ip, dir string, script *scenario.Upstream, pki *PKI) (*Upstream, error) {
	if other := script.Attrs["ip"]; other != "" {
		ip = other
	}
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		return nil, err
	}
	u := &Upstream{script: script, l: l, pki: pki, dir: dir, open: map[net.Conn]bool{}}
	if script.Attrs["proto"] == "dns" {
		if err := u.datagrams(); err != nil {
			l.Close()
			return nil, err
		}
	}
	if name := script.Attrs["socket"]; name != "" {
		if u.socket, err = net.Listen("unix", filepath.Join(dir, name)); err != nil {
			u.Close()
			return nil, err
		}
		go u.accept(u.socket)
	}
	go u.accept(l)
	return u, nil
}

func (u *Upstream) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if u.keep(c) {
			go u.serve(c)
		}
	}
}

// Addr is where it listens.
func (u *Upstream) Addr() string { return u.l.Addr().String() }

// Close ends the upstream and its connections.
func (u *Upstream) Close() {
	u.l.Close()
	if u.packets != nil {
		u.packets.Close()
	}
	if u.socket != nil {
		u.socket.Close()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for c := range u.open {
		c.Close()
	}
}

func (u *Upstream) keep(c net.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		c.Close()
		return false
	}
	u.open[c] = true
	return true
}

// Notes returns what has come so far.
func (u *Upstream) Notes(v *scenario.View) scenario.Notes {
	u.mu.Lock()
	seen := slices.Clone(u.seen)
	u.mu.Unlock()
	if u.script.Attrs["order"] == "any" || u.script.Attrs["count"] == "any" {
		for i := range seen {
			seen[i] = v.NormalizeHead(seen[i])
		}
		sort.Strings(seen)
	}
	if u.script.Attrs["count"] == "any" {
		seen = slices.Compact(seen)
	}
	var n scenario.Notes
	if u.script.Attrs["seen"] == "no" {
		return n
	}
	for i, text := range seen {
		head, body, whole := strings.Cut(text, "\r\n\r\n")
		if coding := codingOf(head); coding != "" {
			body = string(plainly(coding, []byte(body)))
			text = head + "\r\n\r\n" + body
		}
		switch {
		case len(body) > longest:
			text = fmt.Sprintf("%s\r\n\r\n%s", head, short([]byte(body)))
		case !whole && len(head) > longest: // megabytes of TCP
			text = short([]byte(head))
		}
		n.Add(fmt.Sprintf("upstream %s %d", u.script.Name, i+1), v.NormalizeHead(text))
	}
	return n
}

func (u *Upstream) note(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = append(u.seen, text)
}

// next is the answer to a request: those with the longest path= that fits, in turn; the last
// stays.
func (u *Upstream) next(path string) scenario.Step {
	u.mu.Lock()
	defer u.mu.Unlock()
	var fits []scenario.Step
	of := ""
	for _, a := range u.script.Answers {
		at := a.Attrs["path"]
		if !strings.HasPrefix(path, at) || len(at) < len(of) || a.Text == "" && len(a.Words) == 0 {
			continue
		}
		if at != of {
			of, fits = at, nil
		}
		fits = append(fits, a)
	}
	if len(fits) == 0 {
		return ok
	}
	if u.answer == nil {
		u.answer = map[string]int{}
	}
	u.answer[of]++
	return fits[min(u.answer[of], len(fits))-1]
}

func (u *Upstream) serve(c net.Conn) {
	defer func() {
		c.Close()
		u.mu.Lock()
		delete(u.open, c)
		u.mu.Unlock()
	}()
	_ = c.SetDeadline(time.Now().Add(patience))
	if name := u.script.Attrs["tls"]; name != "" {
		secure, err := u.handshake(c, name)
		if err != nil {
			return
		}
		c = secure
	}
	switch u.script.Attrs["proto"] {
	case "dns":
		_ = c.SetDeadline(time.Time{})
		u.dns(c)
	case "xds":
		_ = c.SetDeadline(time.Time{}) // it lasts as long as the proxy
		u.discovery(c)
	case "tcp":
		u.tcp(c)
	case "h2":
		u.h2(c)
	default:
		u.h1(c)
	}
}

// handshake plays the server of TLS with the certificate of a name, and notes what
// the proxy showed.
func (u *Upstream) handshake(c net.Conn, name string) (net.Conn, error) {
	config := &tls.Config{Certificates: []tls.Certificate{u.pki.Certificate(name)}, NextProtos: split(u.script.Attrs["alpn"])}
	if u.script.Answers[0].Has("resume") { // tickets of one connection are good for the others
		config.SetSessionTicketKeys([][32]byte{{}})
	}
	if u.script.Attrs["verify"] != "" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, u.pki.Pool(u.script.Attrs["verify"])
	}
	sni, protocols := "", ""
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		sni, protocols = h.ServerName, strings.Join(h.SupportedProtos, ",")
		return nil, nil
	}
	s := tls.Server(c, config)
	err := s.Handshake()
	client := "none"
	if certs := s.ConnectionState().PeerCertificates; len(certs) > 0 {
		client = certs[0].Subject.CommonName
	}
	what := fmt.Sprintf("TLS server name %q, protocols %q, client certificate %s", sni, protocols, client)
	if err != nil {
		what += ", refused"
	}
	u.note(what)
	return s, err
}

// h1 reads requests and answers each. A request that does not parse ends the
// connection, with what came noted.
func (u *Upstream) h1(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		head, err := readHead(r)
		if err != nil {
			if head != "" {
				u.note(head + "(and no more)")
			}
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), r)))
		if err != nil {
			u.note(head + "(does not parse: " + err.Error() + ")")
			return
		}
		answer := u.next(req.URL.Path)
		if answer.Has("early") { // before the body has come
			u.note(head)
			if !u.say(c, r, answer) {
				return
			}
			if body, err := io.ReadAll(req.Body); err == nil && len(body) > 0 {
				u.note("the body, after the answer: " + string(body))
			}
			continue
		}
		if req.Header.Get("Expect") != "" && answer.Has("continue") {
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		text := head
		if req.ContentLength != 0 {
			body, err := io.ReadAll(req.Body)
			text += string(body)
			for _, k := range sortedKeys(req.Trailer) {
				text += fmt.Sprintf("\ntrailer %s: %s", strings.ToLower(k), req.Trailer[k][0])
			}
			if err != nil {
				u.note(text + "(and no more)")
				return
			}
		}
		u.note(text)
		if !u.say(c, r, answer) {
			return
		}
	}
}

// say answers, and reports whether the connection goes on.
func (u *Upstream) say(c net.Conn, r *bufio.Reader, answer scenario.Step) bool {
	if d, err := time.ParseDuration(answer.Attrs["delay"]); err == nil {
		time.Sleep(d)
	}
	if answer.Text != "" {
		text, err := scenario.Bytes(answer.Text)
		if err != nil {
			text = "HTTP/1.1 599 " + err.Error() + "\r\ncontent-length: 0\r\n\r\n"
		}
		write(c, text)
	}
	switch {
	case answer.Has("reset"):
		linger(c)
		return false
	case answer.Has("close"):
		return false
	case answer.Has("silent"): // never says anything (more), until the proxy ends it
		_, _ = io.Copy(io.Discard, r)
		return false
	case answer.Has("echo"): // a tunnel
		u.echo(c, r)
		return false
	}
	return true
}

// write sends a text, with a tenth of a second between its pieces.
func write(c net.Conn, text string) {
	for i, piece := range strings.Split(text, "(pause)") {
		if i > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		_, _ = io.WriteString(c, piece)
	}
}

// echo sends back what comes, and notes it at the end.
func (u *Upstream) echo(c net.Conn, r io.Reader) {
	var all strings.Builder
	_, err := io.Copy(c, io.TeeReader(r, &all))
	u.note("tunnel " + all.String() + fate(err))
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// tcp is an upstream without a protocol: it greets, and then echoes or listens.
func (u *Upstream) tcp(c net.Conn) {
	answer := u.next("")
	if answer.Attrs == nil {
		answer = scenario.Step{Words: []string{"echo"}}
	}
	if answer.Text != "" {
		text, _ := scenario.Bytes(answer.Text)
		write(c, text)
	}
	switch {
	case answer.Has("reset"):
		linger(c)
	case answer.Has("close"):
	case answer.Has("read"): // up to the end of what the client sends, and then the end
		all, err := io.ReadAll(c)
		u.note("tcp " + string(all) + fate(err))
	default:
		u.echo(c, c)
	}
}

func fate(err error) string {
	switch {
	case err == nil:
		return " (end)"
	case errors.Is(err, net.ErrClosed):
		return " (still open)"
	}
	return " (reset)"
}

func linger(c net.Conn) {
	if s, ok := c.(*tls.Conn); ok {
		c = s.NetConn()
	}
	_ = c.(*net.TCPConn).SetLinger(0)
}

// readHead reads up to the empty line. What came is returned with an error, too.
func readHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		if line == "\r\n" || line == "\n" {
			return b.String(), nil
		}
		if b.Len() > 4<<20 {
			return b.String(), fmt.Errorf("a head of over 4 MB")
		}
	}
}

func sortedKeys(h http.Header) []string {
	var out []string
	for k := range h {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
