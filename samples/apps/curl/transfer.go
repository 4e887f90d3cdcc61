package curl

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A transfer is one URL on its way, with its redirects.
type transfer struct {
	*session
	url   string
	index int

	start   time.Time
	times   times
	target  *url.URL
	conn    *conn
	method  string
	status  int
	proto   string
	header  []field // of the last answer, as it came
	size    int64
	sent    int64
	opened  int
	hops    int
	next    string // where a redirect that was not followed leads
	errText string
	errCode int
}

// times are since the start of the transfer.
type times struct {
	lookup, connect, tls, pretransfer, first, redirect, total time.Duration
}

type field struct{ name, value string }

// maxHead is what curl accepts of header bytes.
const maxHead = 300 << 10

func (t *transfer) run(ctx context.Context) *failure {
	t.start = time.Now()
	defer func() { t.times.total = time.Since(t.start) }()
	if t.o.maxTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, t.start.Add(t.o.maxTime))
		defer cancel()
	}
	u, err := parseURL(t.url)
	if err != nil {
		return err
	}
	out, closeOut, err := t.output(u)
	if err != nil {
		return err
	}
	defer closeOut()
	method, body, withBody := t.o.request(u)
	for {
		t.target, t.method = u, method
		if err := t.exchange(ctx, u, method, body, withBody, out); err != nil {
			return err
		}
		next, ok := t.redirect(u)
		if !ok {
			break
		}
		if !t.o.location {
			t.next = next.String()
			break
		}
		if t.o.maxRedirs >= 0 && t.hops >= t.o.maxRedirs {
			return failf(exitRedirects, "Maximum (%d) redirects followed", t.o.maxRedirs)
		}
		t.hops++
		t.times.redirect = time.Since(t.start)
		t.info("Issue another request to this URL: '%s'", next)
		if t.o.method == "" && method == "POST" && t.status >= 301 && t.status <= 303 {
			method, body, withBody = "GET", nil, false // as browsers do
		}
		u = next
	}
	if t.status >= 400 && (t.o.fail || t.o.failBody) {
		return failf(exitHTTP, "The requested URL returned error: %d", t.status)
	}
	return nil
}

// request is the method and body that the options ask for; -G puts the data
// into the URL.
func (o *options) request(u *url.URL) (method string, body []byte, withBody bool) {
	method, body, withBody = "GET", o.data, o.hasData || o.hasUpload
	switch {
	case o.get && o.hasData:
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += string(o.data)
		body, withBody = nil, false
	case o.hasUpload:
		method = "PUT"
	case o.hasData:
		method = "POST"
	}
	if o.head {
		method, body, withBody = "HEAD", nil, false
	}
	if o.method != "" {
		method = o.method
	}
	return method, body, withBody
}

func (t *transfer) redirect(u *url.URL) (*url.URL, bool) {
	to := t.get("Location")
	if t.status < 300 || t.status > 399 || to == "" {
		return nil, false
	}
	next, err := u.Parse(to)
	return next, err == nil
}

func (t *transfer) get(name string) string {
	for _, f := range t.header {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// output opens where the body goes.
func (t *transfer) output(u *url.URL) (io.Writer, func(), *failure) {
	nothing := func() {}
	if t.index >= len(t.o.outputs) || t.o.outputs[t.index] == "-" {
		return t.out, nothing, nil
	}
	name := t.o.outputs[t.index]
	if name == "/" { // -O
		if name = path.Base(u.Path); name == "/" || name == "." {
			return nil, nil, failf(exitWrite, "Remote file name has no length")
		}
	}
	if t.o.createDirs {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, nil, failf(exitWrite, "%v", err)
		}
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, failf(exitWrite, "Failed to open the file %s: %v", name, errors.Unwrap(err))
	}
	return f, func() { _ = f.Close() }, nil
}

// exchange sends one request and reads its answer.
func (t *transfer) exchange(ctx context.Context, u *url.URL, method string, body []byte, withBody bool, out io.Writer) *failure {
	reused := t.session.conn != nil && t.session.conn.key == t.key(u)
	c, err := t.connection(ctx, u)
	if err != nil {
		return err
	}
	t.conn = c
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	t.times.pretransfer = time.Since(t.start)
	head := t.requestHead(u, method, len(body), withBody)
	t.trace("> ", head)
	if _, werr := c.Write(append([]byte(head), body...)); werr != nil && !reused {
		return t.broken(ctx, exitSend, "Send failure: ", werr)
	}
	t.sent += int64(len(body))
	t.info("Request completely sent off")
	text, rerr := t.readHead(c)
	if rerr != nil && reused && text == "" && ctx.Err() == nil {
		// The server has closed the idle connection: this says nothing about the request.
		t.session.drop()
		return t.exchange(ctx, u, method, body, withBody, out)
	}
	if rerr != nil {
		defer t.session.drop()
		if errors.Is(rerr, io.EOF) && text == "" {
			return failf(exitEmpty, "Empty reply from server")
		}
		var f *failure
		if errors.As(rerr, &f) {
			return f
		}
		return t.broken(ctx, exitRecv, "Recv failure: ", rerr)
	}
	if t.o.include || t.o.head {
		_, _ = io.WriteString(out, text) // an error shows at the flush
	}
	if t.o.dump != "" {
		if err := t.dumpHead(text, out); err != nil {
			return failf(exitWrite, "%v", err)
		}
	}
	t.keepCookies(u)
	follow := false
	if _, ok := t.redirect(u); ok && t.o.location {
		follow = true
	}
	return t.body(ctx, c, method, out, follow)
}

func (t *transfer) dumpHead(text string, out io.Writer) error {
	if t.o.dump == "-" {
		_, err := io.WriteString(out, text)
		return err
	}
	f, err := os.OpenFile(t.o.dump, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// broken names what stopped a transfer.
func (t *transfer) broken(ctx context.Context, code int, what string, err error) *failure {
	t.session.drop()
	if ne, ok := errors.AsType[net.Error](err); ctx.Err() != nil || ok && ne.Timeout() {
		return failf(exitTimeout, "Operation timed out after %d milliseconds with %d bytes received", time.Since(t.start).Milliseconds(), t.size)
	}
	return failf(code, "%s%s", what, reason(err))
}

// requestHead is the request line and fields, in curl's order.
func (t *transfer) requestHead(u *url.URL, method string, length int, withBody bool) string {
	target := u.RequestURI()
	if t.o.proxy != "" && u.Scheme == "http" {
		target = "http://" + u.Host + target
	}
	if t.o.requestTarget != "" {
		target = t.o.requestTarget
	}
	version := "1.1"
	if t.o.http10 {
		version = "1.0"
	}
	agent := t.o.agent
	if agent == "" {
		agent = "curl/" + curlVersion
	}
	fields := []field{{"Host", u.Host}}
	switch user := t.o.user; {
	case user == "" && u.User != nil:
		password, _ := u.User.Password()
		fields = append(fields, field{"Authorization", basic(u.User.Username() + ":" + password)})
	case user != "" && t.sameHost(u):
		fields = append(fields, field{"Authorization", basic(user)})
	case t.o.bearer != "" && t.sameHost(u):
		fields = append(fields, field{"Authorization", "Bearer " + t.o.bearer})
	}
	if t.o.proxy != "" && u.Scheme == "http" && t.o.proxyUser != "" {
		fields = append(fields, field{"Proxy-Authorization", basic(t.o.proxyUser)})
	}
	if t.o.byteRange != "" {
		fields = append(fields, field{"Range", "bytes=" + t.o.byteRange})
	}
	fields = append(fields, field{"User-Agent", agent}, field{"Accept", "*/*"})
	if t.o.compressed {
		fields = append(fields, field{"Accept-Encoding", "deflate, gzip"})
	}
	if t.o.referer != "" {
		fields = append(fields, field{"Referer", t.o.referer})
	}
	if c := t.cookieHeader(u); c != "" {
		fields = append(fields, field{"Cookie", c})
	}
	if t.o.isJSON {
		fields = set(fields, "Accept", "application/json")
	}
	if withBody {
		fields = append(fields, field{"Content-Length", strconv.Itoa(length)})
		switch {
		case t.o.isJSON:
			fields = append(fields, field{"Content-Type", "application/json"})
		case t.o.isForm:
			fields = append(fields, field{"Content-Type", t.o.formType})
		case t.o.hasData:
			fields = append(fields, field{"Content-Type", "application/x-www-form-urlencoded"})
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/%s\r\n", method, target, version)
	for _, f := range t.o.apply(fields) {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
	}
	b.WriteString("\r\n")
	return b.String()
}

// sameHost reports whether credentials are for this hop: not for a host that a
// redirect leads to.
func (t *transfer) sameHost(u *url.URL) bool {
	first, err := parseURL(t.url)
	return err == nil && strings.EqualFold(first.Host, u.Host) && first.Scheme == u.Scheme
}

func set(fields []field, name, value string) []field {
	for i := range fields {
		if strings.EqualFold(fields[i].name, name) {
			fields[i].value = value
			return fields
		}
	}
	return append(fields, field{name, value})
}

// apply adds -H: "Name: value" sets, "Name:" removes, "Name;" sends it empty.
func (o *options) apply(fields []field) []field {
	own := map[string]bool{} // given by -H: the first of a name replaces, the next ones add
	for _, h := range o.headers {
		name, v, colon := strings.Cut(h, ":")
		v = strings.TrimSpace(v)
		switch {
		case colon && v == "":
			for i := 0; i < len(fields); i++ {
				if strings.EqualFold(fields[i].name, name) {
					fields = append(fields[:i], fields[i+1:]...)
					i--
				}
			}
		case colon && own[strings.ToLower(name)]:
			fields = append(fields, field{name, v})
		case colon:
			own[strings.ToLower(name)] = true
			before := len(fields)
			if fields = set(fields, name, v); len(fields) == before && !strings.EqualFold(name, "host") {
				fields = moveLast(fields, name)
			}
		case strings.HasSuffix(h, ";"):
			fields = append(fields, field{strings.TrimSuffix(h, ";"), ""})
		}
	}
	return fields
}

func moveLast(fields []field, name string) []field {
	for i, f := range fields {
		if strings.EqualFold(f.name, name) {
			return append(append(fields[:i:i], fields[i+1:]...), field{name, f.value})
		}
	}
	return fields
}

func (t *transfer) trace(mark, text string) {
	if !t.o.verbose {
		return
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\r\n"), "\r\n") {
		fmt.Fprintf(t.err, "%s%s\n", mark, line)
	}
}

// readHead reads one final answer's head and returns it as it came.
func (t *transfer) readHead(c *conn) (string, error) {
	for {
		text, err := readLines(c.in)
		if text != "" && t.times.first == 0 {
			t.times.first = time.Since(t.start)
		}
		if err != nil {
			return text, err
		}
		if err := t.parseHead(text); err != nil {
			return text, err
		}
		t.trace("< ", text)
		if t.status >= 200 || t.status == 101 {
			return text, nil
		}
	}
}

func readLines(in *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := in.ReadSlice('\n')
		b.Write(line)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return b.String(), err
		}
		if b.Len() > maxHead {
			return b.String(), failf(exitRecv, "Too large response headers: %d > %d", b.Len(), maxHead)
		}
		if err == nil && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return b.String(), nil
		}
		if b.Len() >= 5 && !strings.HasPrefix(b.String(), "HTTP/") {
			return b.String(), failf(exitProtocol, "Received HTTP/0.9 when not allowed")
		}
	}
}

func (t *transfer) parseHead(text string) error {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	proto, rest, _ := strings.Cut(lines[0], " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(proto, "HTTP/1.") || status < 100 || status > 999 {
		return failf(exitProtocol, "Unsupported HTTP version or status in %q", lines[0])
	}
	t.status, t.proto, t.header = status, strings.TrimPrefix(proto, "HTTP/"), nil
	for _, line := range lines[1:] {
		if name, value, ok := strings.Cut(line, ":"); ok {
			t.header = append(t.header, field{name, strings.TrimSpace(value)})
		}
	}
	return nil
}

// body reads the answer's body by its framing (RFC 9112, section 6.3).
func (t *transfer) body(ctx context.Context, c *conn, method string, out io.Writer, skip bool) *failure {
	keep := t.proto == "1.1" && !t.o.http10 && !t.o.noKeepalive && !strings.EqualFold(t.get("Connection"), "close")
	var in io.Reader
	length := int64(-1)
	chunked := false
	switch {
	case method == "HEAD" || t.status == 204 || t.status == 304:
		length, in = 0, strings.NewReader("")
	case strings.EqualFold(t.get("Transfer-Encoding"), "chunked"):
		chunked, in = true, httputil.NewChunkedReader(c.in)
	case t.get("Content-Length") != "":
		n, err := strconv.ParseInt(t.get("Content-Length"), 10, 64)
		if err != nil || n < 0 {
			return failf(8, "Invalid Content-Length: value")
		}
		length, in = n, io.LimitReader(c.in, n)
	default:
		keep, in = false, c.in
	}
	if skip || t.o.fail && t.status >= 400 {
		out = io.Discard
	}
	counted := &counter{r: in}
	src, err := t.decode(counted)
	if err == nil {
		err = t.copy(out, src)
	}
	t.size = counted.n
	var wrote *writeError
	switch {
	case errors.As(err, &wrote):
		t.session.drop()
		return failf(exitWrite, "Failure writing output to destination")
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || err == nil && length > counted.n:
		t.session.drop()
		if length >= 0 {
			return failf(exitPartial, "end of response with %d bytes missing", length-counted.n)
		}
		return failf(exitPartial, "transfer closed with outstanding read data remaining")
	case err != nil:
		return t.broken(ctx, exitRecv, "Recv failure: ", err)
	}
	if chunked {
		if _, err := readTrailer(c.in); err != nil {
			keep = false
		}
	}
	if !keep {
		t.session.drop()
		t.info("shutting down connection #%d", c.number)
		return nil
	}
	t.info("Connection #%d to host %s left intact", c.number, t.target.Hostname())
	return nil
}

// readTrailer reads to the empty line that ends a chunked body.
func readTrailer(in *bufio.Reader) (int, error) {
	for n := 0; ; {
		line, err := in.ReadSlice('\n')
		if n += len(line); err != nil || n > maxHead || len(bytes.TrimRight(line, "\r\n")) == 0 {
			return n, err
		}
	}
}

func (t *transfer) decode(in io.Reader) (io.Reader, error) {
	if !t.o.compressed {
		return in, nil
	}
	switch strings.ToLower(t.get("Content-Encoding")) {
	case "gzip":
		return gzip.NewReader(in)
	case "deflate":
		return zlib.NewReader(in)
	}
	return in, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

type writeError struct{ error }

// copy passes on what comes when it comes: a stream is to be watched.
func (t *transfer) copy(out io.Writer, in io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return &writeError{werr}
			}
			if b, ok := out.(*bufio.Writer); ok && b.Flush() != nil {
				return &writeError{io.ErrShortWrite}
			}
		}
		if err == io.EOF { // the framing's own end; a broken one is io.ErrUnexpectedEOF
			return nil
		}
		if err != nil {
			return err
		}
	}
}
