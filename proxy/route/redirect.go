package route

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/uri"
)

// A Redirect answers with a Location.
type Redirect struct {
	Code uint16

	scheme     string
	host       string
	port       string // ":8443", empty: none
	path       string
	prefix     string
	regex      *substitution
	format     *access.Format
	stripQuery bool
	keepHost   bool // with its port, whatever that is
	match      match
}

func newRedirect(c *RedirectConfig) (*Redirect, error) {
	d := &Redirect{Code: c.Code, scheme: c.Scheme, host: c.Host, path: c.Path, prefix: c.Prefix, stripQuery: c.StripQuery}
	if d.Code == 0 {
		d.Code = 301
	}
	if !slices.Contains([]uint16{301, 302, 303, 307, 308}, d.Code) {
		return nil, fmt.Errorf("response_code %d, want 301, 302, 303, 307 or 308", c.Code)
	}
	if c.HTTPS {
		if c.Scheme != "" {
			return nil, fmt.Errorf("https_redirect and scheme_redirect, want one of them")
		}
		d.scheme = "https"
	}
	if c.Port != 0 {
		if c.Port > 65535 {
			return nil, fmt.Errorf("port_redirect %d, want at most 65535", c.Port)
		}
		d.port = ":" + strconv.Itoa(int(c.Port))
	}
	ways := count(c.Path != "", c.Prefix != "", c.Regex != "", c.PathFormat != "")
	if ways > 1 {
		return nil, fmt.Errorf("%d ways to change the path, want at most one of path_redirect, prefix_rewrite, regex_rewrite and path_rewrite", ways)
	}
	if c.Regex != "" {
		var err error
		if d.regex, err = newSubstitution(c.Regex, c.Substitution); err != nil {
			return nil, fmt.Errorf("regex_rewrite: %w", err)
		}
	}
	var err error
	if d.format, err = format(c.PathFormat); err != nil {
		return nil, fmt.Errorf("path_rewrite: %w", err)
	}
	return d, nil
}

// AppendLocation appends the value of the Location field, by Envoy's rules.
func (d *Redirect) AppendLocation(dst []byte, r *Request, rec *access.Record) []byte {
	scheme := r.Scheme
	if d.scheme != "" {
		dst = append(dst, d.scheme...)
		scheme = dst[len(dst)-len(d.scheme):]
	} else {
		dst = append(dst, scheme...)
	}
	host := d.requestHost(r, scheme)
	dst = append(dst, "://"...)
	if d.host != "" {
		dst = append(dst, d.host...)
	} else {
		dst = append(dst, host...)
	}
	dst = append(dst, d.port...)
	if d.format != nil {
		if out := d.format.Append(dst, rec); len(out) > len(dst) && header.ValidValue(out[len(dst):]) {
			if i := bytes.IndexByte(r.Path, '?'); i >= 0 && !d.stripQuery && bytes.IndexByte(out[len(dst):], '?') < 0 {
				out = append(out, r.Path[i:]...)
			}
			return out
		}
	}
	n := len(dst)
	if dst = d.appendPath(dst, r.Path); len(dst) == n || dst[n] != '/' { // else the host's name would go on with it
		dst = slices.Insert(dst, n, '/')
	}
	return dst
}

// requestHost is the host of the request without a port that the new address would contradict: any if there is
// a new port, and the default port of the old scheme if that changes.
func (d *Redirect) requestHost(r *Request, scheme []byte) []byte {
	host := r.Authority
	i := bytes.LastIndexByte(host, ':')
	if len(host) > 0 && host[0] == '[' {
		if i = bytes.LastIndex(host, []byte("]:")); i >= 0 {
			i++
		}
	}
	if i < 0 || d.keepHost {
		return host
	}
	was := r.Scheme
	if r.Headers != nil {
		if p := r.Headers.Get(header.XForwardedProto); len(p) > 0 {
			was = p
		}
	}
	port := host[i:]
	if d.port != "" ||
		!bytes.Equal(scheme, was) && (string(was) == "https" && string(port) == ":443" || string(was) == "http" && string(port) == ":80") {
		return host[:i]
	}
	return host
}

// RewritePath gives the request the path that a prefix or an expression is rewritten to, for the fields that are added to the
// response and for the log: its query stays, also where the location has none. If original is set, the former one is kept
// in x-envoy-original-path, be it the same.
func (d *Redirect) RewritePath(m *header.Map, original bool) {
	full := m.Get(header.Path)
	path, _ := uri.Split(full)
	var out []byte
	switch {
	case d.prefix != "":
		out = append([]byte(d.prefix), path[d.match.length(path):]...)
	case d.regex != nil:
		out = d.regex.replace(nil, path)
	}
	if len(out) == 0 {
		return
	}
	if original {
		m.Set(header.XEnvoyOriginalPath, full)
	}
	m.SetCopy(header.Path, append(out, full[len(path):]...))
}

func (d *Redirect) appendPath(dst, path []byte) []byte {
	if d.path != "" {
		dst = append(dst, d.path...)
		if i := bytes.IndexByte(path, '?'); i >= 0 && !d.stripQuery && !strings.Contains(d.path, "?") {
			dst = append(dst, path[i:]...) // a query of the new path's own takes precedence
		}
		return dst
	}
	if i := bytes.IndexByte(path, '?'); i >= 0 && d.stripQuery {
		path = path[:i]
	}
	switch {
	case d.prefix != "":
		dst = append(dst, d.prefix...)
		return append(dst, path[d.match.length(path):]...)
	case d.regex != nil:
		p, _ := uri.Split(path)
		if out := d.regex.replace(dst, p); len(out) > len(dst) { // of nothing nothing comes: the old path stays
			return append(out, path[len(p):]...)
		}
	}
	return append(dst, path...)
}
