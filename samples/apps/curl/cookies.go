package curl

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// A cookie is one line of a cookie file.
type cookie struct {
	domain, path, name, value string
	sub                       bool // for hosts below the domain too
	secure                    bool
	expires                   int64 // Unix seconds; 0: with the session
}

func (c cookie) fits(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return (host == c.domain || c.sub && strings.HasSuffix(host, "."+c.domain)) &&
		(u.Path == c.path || strings.HasPrefix(u.Path, strings.TrimSuffix(c.path, "/")+"/") || c.path == "/") &&
		(!c.secure || u.Scheme == "https")
}

// cookieHeader is what -b and the cookies kept so far give for a URL.
func (t *transfer) cookieHeader(u *url.URL) string {
	s := t.session
	var parts []string
	if strings.Contains(s.o.cookie, "=") {
		parts = append(parts, s.o.cookie)
	} else if s.o.cookie != "" && !s.loaded {
		s.loadCookies()
	}
	for _, c := range s.cookies {
		if c.fits(u) {
			parts = append(parts, c.name+"="+c.value)
		}
	}
	return strings.Join(parts, "; ")
}

// loadCookies reads the file of -b; one that is not there is empty.
func (s *session) loadCookies() {
	s.loaded = true
	data, err := os.ReadFile(s.o.cookie)
	if err != nil {
		return
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "#HttpOnly_")
		f := strings.Split(line, "\t")
		if strings.HasPrefix(line, "#") || len(f) != 7 {
			continue
		}
		expires, err := strconv.ParseInt(f[4], 10, 64)
		if err != nil || expires != 0 && expires < time.Now().Unix() {
			continue
		}
		s.cookies = append(s.cookies, cookie{strings.TrimPrefix(f[0], "."), f[2], f[5], f[6], f[1] == "TRUE", f[3] == "TRUE", expires})
	}
}

// keepCookies takes the answer's cookies, if -b or -c has turned that on.
func (t *transfer) keepCookies(u *url.URL) {
	if t.o.cookie == "" && t.o.jar == "" {
		return
	}
	h := http.Header{}
	for _, f := range t.header {
		if strings.EqualFold(f.name, "Set-Cookie") {
			h.Add("Set-Cookie", f.value)
		}
	}
	for _, c := range (&http.Response{Header: h}).Cookies() {
		n := cookie{strings.ToLower(u.Hostname()), "/", c.Name, c.Value, false, c.Secure, 0}
		if d := strings.TrimPrefix(strings.ToLower(c.Domain), "."); d != "" {
			if !(n.domain == d || strings.HasSuffix(n.domain, "."+d)) {
				continue // a host cannot speak for another
			}
			n.domain, n.sub = d, true
		}
		if c.Path != "" {
			n.path = c.Path
		}
		switch {
		case c.MaxAge != 0:
			n.expires = time.Now().Unix() + int64(c.MaxAge)
		case !c.Expires.IsZero():
			n.expires = c.Expires.Unix()
		}
		t.session.keep(n)
	}
}

// keep replaces the cookie of the same name, or removes it if the new one has
// expired.
func (s *session) keep(n cookie) {
	var rest []cookie
	for _, c := range s.cookies {
		if c.name != n.name || c.domain != n.domain || c.path != n.path {
			rest = append(rest, c)
		}
	}
	if n.expires == 0 || n.expires > time.Now().Unix() {
		rest = append(rest, n)
	}
	s.cookies = rest
}

// saveCookies writes the file of -c.
func (s *session) saveCookies() error {
	if s.o.jar == "" {
		return nil
	}
	var b bytes.Buffer
	b.WriteString("# Netscape HTTP Cookie File\n\n")
	word := map[bool]string{true: "TRUE", false: "FALSE"}
	for _, c := range s.cookies {
		domain := c.domain
		if c.sub {
			domain = "." + domain
		}
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", domain, word[c.sub], c.path, word[c.secure], c.expires, c.name, c.value)
	}
	if s.o.jar == "-" {
		_, err := s.out.Write(b.Bytes())
		return err
	}
	return os.WriteFile(s.o.jar, b.Bytes(), 0o600)
}
