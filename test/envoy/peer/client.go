package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// answerTime is how long an answer may take, and endTime how long a proxy that said
// it would close may wait (Envoy waits a second for the client to close first).
const (
	answerTime = 8 * time.Second
	silentTime = 400 * time.Millisecond // of a step that expects no answer
	endTime    = 4 * time.Second
	lookTime   = 80 * time.Millisecond // to see that a connection has been closed without a word
)

// A Client plays the steps of a scenario against one proxy.
type Client struct {
	View  *scenario.View
	PKI   *PKI
	Admin string // host:port of the admin interface
	Notes scenario.Notes

	conns    map[string]*conn
	order    []string
	answers  int
	tapped   tapped
	traced   int                    // traces that it has read
	asked    int                    // questions to the admin interface
	sessions tls.ClientSessionCache // of connections that are to resume
	silences []string               // where something should have come and did not
}

// A conn is a connection of the client to the proxy.
type conn struct {
	net.Conn
	protocol
	wait    time.Duration // for the answer that is read just now
	coded   int           // what its coding tells of itself is noted, and whether its body is shorter than that
	closing bool          // the proxy said that it would end the connection
	fate    string        // set once the end has been seen

	settings bool // those of the proxy are noted
}

// end notes how the connection has ended; silence is no end.
func (c *conn) end(err error) {
	if why := reason(err); why != late {
		c.fate = why
	}
}

// A protocol reads and writes messages on a connection.
type protocol interface {
	// send sends a request, or in part.
	send(c *conn, step scenario.Step) error
	// receive reads the answer to a request and notes it under "answer N".
	receive(c *conn, step scenario.Step, note func(key, value string)) error
}

// Play plays all steps. What a proxy does is noted; an error is the scenario's. So is silence that no step expects:
// of both proxies alike it would compare well and show nothing.
func (cl *Client) Play() error {
	cl.conns = map[string]*conn{}
	defer func() {
		for _, c := range cl.conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i, step := range cl.View.Steps {
		if err := cl.step(step); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, step.Do, err)
		}
	}
	for _, name := range cl.order {
		cl.end(name)
	}
	if len(cl.silences) > 0 {
		return fmt.Errorf("%s: %s; if that is what it is about, say silent in the step's title", strings.Join(cl.silences, ", "), late)
	}
	return nil
}

// waits begins to wait for the answer that a step asks for, and returns who notes what comes.
func (cl *Client) waits(c *conn, step scenario.Step) func(key, value string) {
	cl.answers++
	n := cl.answers
	c.wait = answerTime
	c.coded, _ = strconv.Atoi(step.Attrs["coded"])
	if step.Has("silent") {
		c.wait = silentTime
	}
	if _, raw := c.protocol.(h1Reader); raw { // h2 reads all the time, and waits by a clock of its own
		_ = c.SetReadDeadline(time.Now().Add(c.wait))
	}
	return func(key, value string) {
		key = strings.TrimSpace(fmt.Sprintf("answer %d %s", n, key))
		if strings.HasSuffix(value, late) && strings.HasSuffix(key, " error") && !step.Has("silent") {
			cl.silences = append(cl.silences, key)
		}
		cl.Notes.Add(key, cl.View.Normalize(value))
	}
}

func (cl *Client) step(step scenario.Step) error {
	text, err := cl.View.Fill(strings.ReplaceAll(step.Text, "{{repeat", "(repeat"))
	if err != nil {
		return err
	}
	step.Text = strings.ReplaceAll(text, "(repeat", "{{repeat")
	step.Words, step.Attrs = slices.Clone(step.Words), maps.Clone(step.Attrs) // the other side's client reads them, too
	for i, word := range step.Words {
		if step.Words[i], err = cl.View.Fill(word); err != nil {
			return err
		}
	}
	for k, value := range step.Attrs {
		if step.Attrs[k], err = cl.View.Fill(value); err != nil {
			return err
		}
	}
	switch step.Do {
	case "connect":
		_, err := cl.connect(step)
		return err
	case "request":
		c, err := cl.conn(step)
		if err != nil || c == nil {
			return err
		}
		if err := c.send(c, step); err != nil {
			return err
		}
		return cl.receive(c, step)
	case "send":
		c, err := cl.conn(step)
		if err != nil || c == nil {
			return err
		}
		return c.send(c, step)
	case "answer":
		c, err := cl.conn(step)
		if err != nil || c == nil {
			return err
		}
		return cl.receive(c, step)
	case "read":
		return cl.read(step)
	case "close":
		return cl.close(step)
	case "pause":
		d, err := time.ParseDuration(strings.Join(step.Words, ""))
		if err != nil || d > 5*time.Second {
			return fmt.Errorf("found %q, want a time span of at most 5s", step.Words)
		}
		time.Sleep(d)
		return nil
	case "write":
		return cl.write(step)
	case "admin":
		return cl.admin(step)
	case "tap":
		return cl.tap(step)
	}
	return fmt.Errorf("is not known")
}

// conn finds the connection of a step, or opens it. It is nil, and noted, if the
// proxy did not take the connection.
func (cl *Client) conn(step scenario.Step) (*conn, error) {
	if c, there := cl.conns[step.Attrs["conn"]]; there {
		return c, nil
	}
	return cl.connect(step)
}

func (cl *Client) connect(step scenario.Step) (*conn, error) {
	name := step.Attrs["conn"]
	if old := cl.conns[name]; old != nil {
		cl.end(name)
	}
	address, err := cl.View.Listener(step.Attrs["listener"])
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: answerTime}
	if from := step.Attrs["from"]; from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	raw, err := d.Dial(network, address)
	if err != nil {
		cl.Notes.Add(cl.title(name)+" refused", cl.View.Normalize(reason(err)))
		cl.conns[name] = nil
		return nil, nil
	}
	_ = raw.SetDeadline(time.Now().Add(patience))
	c := &conn{Conn: raw, protocol: h1{}}
	if step.Do == "connect" && step.Text != "" { // before TLS begins
		text, err := step.Bytes()
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(raw, text); err != nil {
			c.fate = reason(err)
		}
	}
	if step.Has("tls") && !cl.secure(c, name, step) {
		cl.conns[name] = nil
		raw.Close()
		return nil, nil
	}
	if step.Has("h2") || step.Has("tls") && c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol == "h2" && !step.Has("raw") {
		if c.protocol, err = newH2(c); err != nil {
			cl.Notes.Add(cl.title(name)+" refused", reason(err))
			cl.conns[name] = nil
			return nil, nil
		}
		c.settings = step.Attrs["note"] == "settings"
	}
	cl.conns[name] = c
	cl.order = append(cl.order, name)
	return c, nil
}

func (cl *Client) title(name string) string { return strings.TrimSpace("connection " + name) }

// secure does TLS's handshake and notes its outcome.
func (cl *Client) secure(c *conn, name string, step scenario.Step) bool {
	config := &tls.Config{ServerName: step.Attrs["sni"], NextProtos: split(step.Attrs["alpn"]), RootCAs: cl.PKI.Pool("ca"), InsecureSkipVerify: true}
	if cert := step.Attrs["cert"]; cert != "" {
		pair := cl.PKI.Certificate(cert)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	versions := map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	config.MaxVersion = versions[step.Attrs["max"]]
	config.MinVersion = versions[step.Attrs["min"]]
	if step.Has("resume") {
		if cl.sessions == nil {
			cl.sessions = tls.NewLRUClientSessionCache(8)
		}
		config.ClientSessionCache = cl.sessions
	}
	s := tls.Client(c.Conn, config)
	title := cl.title(name) + " tls"
	if err := s.Handshake(); err != nil {
		if reason(err) == late && !step.Has("silent") {
			cl.silences = append(cl.silences, title)
		}
		cl.Notes.Add(title, "refused: "+cl.View.Normalize(reason(err)))
		return false
	}
	state := s.ConnectionState()
	what := fmt.Sprintf("%s, protocol %q, certificate %s", tls.VersionName(state.Version), state.NegotiatedProtocol, state.PeerCertificates[0].Subject.CommonName)
	if state.DidResume {
		what += ", resumed"
	}
	if len(state.OCSPResponse) > 0 {
		what += ", stapled"
	}
	cl.Notes.Add(title, what)
	c.Conn = s
	return true
}

func (cl *Client) receive(c *conn, step scenario.Step) error {
	return c.receive(c, step, cl.waits(c, step))
}

// read reads raw bytes: as many as bytes= says, or up to the end.
func (cl *Client) read(step scenario.Step) error {
	c, err := cl.conn(step)
	if err != nil || c == nil {
		return err
	}
	note := cl.waits(c, step)
	var b []byte
	var r io.Reader = c
	if buffered, ok := c.protocol.(h1Reader); ok {
		r = buffered.reader(c)
	}
	if text := step.Attrs["bytes"]; text != "" {
		n := 0
		if _, err := fmt.Sscan(text, &n); err != nil || n > 64<<20 {
			return fmt.Errorf("bytes=%s: want a number", text)
		}
		b = make([]byte, n)
		n, err = io.ReadFull(r, b)
		b = b[:n]
	} else if b, err = io.ReadAll(r); err == nil {
		c.fate = "closed"
	}
	note("bytes", short(b))
	if err != nil {
		note("error", reason(err))
	}
	return nil
}

// close ends the connection from here: "close", "close half" or "close reset".
func (cl *Client) close(step scenario.Step) error {
	c := cl.conns[step.Attrs["conn"]]
	if c == nil {
		return nil
	}
	switch {
	case step.Has("half"):
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite()
		}
		return nil
	case step.Has("reset"):
		linger(c.Conn)
	}
	c.fate = "closed by the client"
	return c.Close()
}

// end notes what has become of a connection.
func (cl *Client) end(name string) {
	c := cl.conns[name]
	if c == nil {
		return
	}
	wait := lookTime
	if c.closing {
		wait = endTime
	}
	if c.fate == "" {
		c.fate = look(c, wait)
	}
	cl.Notes.Add(cl.title(name), c.fate)
	if h, ok := c.protocol.(*h2); ok && c.settings {
		cl.Notes.Add(cl.title(name)+" settings", h.offered())
	}
	c.Close()
	cl.conns[name] = nil
}

// look waits for the end of a connection.
func look(c *conn, wait time.Duration) string {
	if h, ok := c.protocol.(*h2); ok {
		return h.look(wait)
	}
	_ = c.SetReadDeadline(time.Now().Add(wait))
	var r io.Reader = c
	if buffered, ok := c.protocol.(h1Reader); ok {
		r = buffered.reader(c)
	}
	more, err := io.ReadAll(io.LimitReader(r, 1<<20))
	fate := "closed"
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		fate = "open"
	case err != nil:
		fate = reason(err)
	}
	if _, framed := c.protocol.(h1Reader); framed && len(more) > 0 {
		fate += fmt.Sprintf(", after %d more bytes", len(more))
	}
	return fate
}

// write replaces a file in the scenario's workspace, as file-based xDS wants it: a
// new file is moved over the old one.
func (cl *Client) write(step scenario.Step) error {
	if len(step.Words) == 0 {
		return fmt.Errorf("want the file's name")
	}
	text, err := step.Text, error(nil)
	if !step.Has("raw") { // meant to be read
		text, err = cl.View.File(step.Words[0], step.Text)
	}
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(cl.View.Workspace, step.Words[0]), text)
}

// WriteFile moves a new file to a path.
func WriteFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// admin asks the admin interface: "admin POST /path". With until=TEXT it asks again
// until the text is there; that it never comes is an error, of both proxies alike, too.
func (cl *Client) admin(step scenario.Step) error {
	if len(step.Words) < 2 {
		return fmt.Errorf("want a method and a path")
	}
	cl.asked++
	until := strings.ReplaceAll(step.Attrs["until"], "+", " ")
	own := cl.View.Normalize(until) != until // an address, which all have in common when they are made equal
	var code int
	var body string
	// Who asks seldom leaves a busy machine to those who are waited for: an answer costs a proxy up to 100 ms.
	for end, wait := time.Now().Add(answerTime), 20*time.Millisecond; ; wait = min(wait*3/2, 200*time.Millisecond) {
		req, err := http.NewRequestWithContext(context.Background(), step.Words[0], "http://"+cl.Admin+step.Words[1], nil)
		if err != nil {
			return err
		}
		if code, body, err = ask(req); err != nil {
			return err
		}
		raw := body
		body = cl.View.Normalize(body)
		if strings.Contains(body, until) || own && strings.Contains(raw, until) {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: waited %v for %q in vain, at last it said %s", step.Words[1], answerTime, until, short([]byte(body)))
		}
		time.Sleep(wait)
	}
	cl.Notes.Add(fmt.Sprintf("admin %d status", cl.asked), fmt.Sprint(code))
	if !step.Has("status") {
		cl.Notes.Add(fmt.Sprintf("admin %d body", cl.asked), body)
	}
	return nil
}

func ask(req *http.Request) (int, string, error) {
	resp, err := adminClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

var adminClient = &http.Client{Timeout: answerTime, Transport: &http.Transport{DisableKeepAlives: true}}

// Ask gets a page of an admin interface.
func Ask(address, path string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", err
	}
	_, body, err := ask(req)
	return body, err
}

// late is the reason that something has not come.
const late = "nothing in time"

// reason is the text of an error without what the operating system adds.
func reason(err error) string {
	var alert tls.AlertError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &alert):
		return alert.Error()
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return late
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	}
	return err.Error()
}
