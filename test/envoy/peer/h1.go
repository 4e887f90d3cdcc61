package peer

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// h1 is HTTP/1.1: requests are raw bytes. Its buffer lives as long as the
// connection.
type h1 struct{ r *bufio.Reader }

// An h1Reader has bytes of the connection in a buffer of its own.
type h1Reader interface{ reader(c *conn) *bufio.Reader }

func (h h1) reader(c *conn) *bufio.Reader {
	if h.r == nil {
		h.r = bufio.NewReader(c)
		c.protocol = h
	}
	return h.r
}

// send writes the bytes of a section while the answer may already be coming: a proxy
// may answer before it has read everything, and then stop reading.
func (h h1) send(c *conn, step scenario.Step) error {
	text, err := step.Bytes()
	if err != nil {
		return err
	}
	if step.Do == "request" && len(text) > 32<<10 {
		go func() { _, _ = io.WriteString(c, text) }()
		return nil
	}
	if _, err := io.WriteString(c, text); err != nil && c.fate == "" {
		c.fate = reason(err)
	}
	return nil
}

// receive reads one answer with what comes before it.
func (h h1) receive(c *conn, step scenario.Step, note func(key, value string)) error {
	r := h.reader(c)
	method := step.Attrs["method"]
	if method == "" {
		method, _, _ = strings.Cut(step.Text, " ")
	}
	for interim := 1; ; interim++ {
		head, err := readHead(r)
		if err != nil {
			note("error", "no answer: "+reason(err))
			if head != "" {
				note("bytes", head)
			}
			c.end(err)
			return nil
		}
		status, fields := lines(head)
		proto, rest, _ := strings.Cut(status, " ")
		code, why, _ := strings.Cut(rest, " ")
		if len(code) == 3 && code[0] == '1' && code != "101" {
			note(fmt.Sprintf("interim %d", interim), head)
			continue
		}
		note("status", code)
		note("protocol", proto)
		note("reason", why)
		headers(fields, note)
		readBody(c, r, method, code, proto, fields, note)
		return nil
	}
}

type field struct{ name, value string }

func lines(head string) (string, []field) {
	all := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	var out []field
	for _, l := range all[1:] {
		name, value, _ := strings.Cut(l, ":")
		out = append(out, field{name, strings.TrimSpace(value)})
	}
	return all[0], out
}

// headers notes each header once: values in their order, and the spelling of names
// that are not in lower case.
func headers(fields []field, note func(key, value string)) {
	values := map[string][]string{}
	var order []string
	for _, f := range fields {
		name := strings.ToLower(f.name)
		if values[name] == nil {
			order = append(order, name)
		}
		value := f.value
		if name != f.name {
			value += " (written " + f.name + ")"
		}
		if name == "x-envoy-upstream-service-time" {
			value = "(ms)"
		}
		values[name] = append(values[name], value)
	}
	for _, name := range order {
		note("header "+name, strings.Join(values[name], " | "))
	}
}

func first(fields []field, name string) string {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// readBody reads the body as the head says, and notes body, trailers and whether the
// connection is to end.
func readBody(c *conn, r *bufio.Reader, method, code, proto string, fields []field, note func(key, value string)) {
	connection := strings.ToLower(first(fields, "connection"))
	c.closing = strings.Contains(connection, "close") || proto == "HTTP/1.0" && !strings.Contains(connection, "keep-alive")
	if method == "HEAD" || code == "204" || code == "304" || code == "101" || method == "CONNECT" && code[0] == '2' {
		return
	}
	length, chunked := first(fields, "content-length"), strings.EqualFold(first(fields, "transfer-encoding"), "chunked")
	var body []byte
	var err error
	switch {
	case chunked:
		var resp *http.Response
		// net/http undoes chunks and gathers trailers.
		resp, err = http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), oneByte{r})), nil)
		if err == nil {
			body, err = io.ReadAll(resp.Body)
			for _, k := range sortedKeys(resp.Trailer) {
				note("trailer "+strings.ToLower(k), strings.Join(resp.Trailer[k], " | "))
			}
		}
	case length != "":
		n, e := strconv.ParseInt(length, 10, 64)
		if e != nil || n < 0 {
			note("error", "content-length "+length)
			return
		}
		body, err = io.ReadAll(io.LimitReader(r, n))
		if err == nil && int64(len(body)) < n {
			err = io.ErrUnexpectedEOF
		}
	default:
		body, err = io.ReadAll(r)
		if err == nil {
			c.fate = "closed"
		}
	}
	if c.coded > 0 {
		note("coded", traits(first(fields, "content-encoding"), body, c.coded))
	}
	note("body", short(plainly(first(fields, "content-encoding"), body)))
	if err != nil {
		note("error", "body: "+reason(err))
		c.end(err)
	}
}

// oneByte keeps a buffered reader on top from taking bytes of the next answer: the
// last chunk ends at the last byte that is asked for.
type oneByte struct{ r *bufio.Reader }

func (o oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := o.r.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// longest is how long a body may be to be noted as it is.
const longest = 4096

// short is a body, or what stands for one that nobody would read.
func short(body []byte) string {
	if len(body) <= longest {
		return string(body)
	}
	return fmt.Sprintf("(%d bytes, sum %x)", len(body), sum(body))
}

// sum is FNV-1a, so that long bodies compare and read as one number.
func sum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
