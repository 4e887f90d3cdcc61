package shard

import (
	"crypto/sha1"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/filter/apikey"
	"github.com/mallamesh/malla/proxy/filter/basicauth"
	"github.com/mallamesh/malla/proxy/filter/csrf"
	"github.com/mallamesh/malla/proxy/filter/session"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// basic is the field that proves a name.
func basic(text string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(text))
}

// Who does not prove who he is, or comes from where he should not, is not let in; letting somebody in allocates nothing.
func TestIdentityFilters(t *testing.T) {
	keys := &apikey.Config{Keys: map[string]string{"k": "ann"}, Sources: []apikey.Source{{Header: []byte("x-key")}, {Query: "key"}, {Cookie: "key"}}, Forward: &apikey.Forward{Hide: true}}
	for _, test := range []struct {
		filter    stream.Factory
		good, bad []string // fields of requests
	}{
		{basicauth.New("b", &basicauth.Config{Users: basicauth.Users{"ann": sha1.Sum([]byte("secret"))}, Forward: []byte("x-user")}, &stats.BasicAuth{}),
			[]string{basic("ann:secret")}, []string{"A: b", basic("ann:secrets"), basic("bob:secret"), basic(":"), "Authorization: Basic ?"}},
		{apikey.New("a", keys, &stats.APIKeyAuth{}), []string{"X-Key: k", "X-Key: Bearer k"}, []string{"A: b", "X-Key: kk", "Cookie: key2=k"}},
		{csrf.New("c", &csrf.Policy{Enabled: always}, &stats.CSRF{}), []string{"Origin: http://a.b", "Referer: http://a.b/x"}, []string{"A: b", "Origin: http://a.b.c", "Origin: null"}},
	} {
		post := func(field string) string {
			return "POST / HTTP/1.1\r\nHost: a.b\r\nContent-Length: 0\r\n" + field + "\r\n\r\n"
		}
		for _, field := range test.good {
			b := filtered(t, test.filter, nil)
			if got := b.do(post(field)); got[9:12] != "200" {
				t.Errorf("%s %q: %q", test.filter.Name(), field, got)
			}
			if n := allocations(t, test.filter, post(field)); n != 0 {
				t.Errorf("%s %q allocates %v times, want 0", test.filter.Name(), field, n)
			}
		}
		for _, field := range test.bad {
			b := filtered(t, test.filter, nil)
			if got := b.do(post(field)); got[9:11] != "40" || len(b.requests) != 0 {
				t.Errorf("%s %q: %q, and the application got %q", test.filter.Name(), field, got, b.requests)
			}
		}
	}
}

// A client that brings back what it was told stays with its host.
func TestStatefulSession(t *testing.T) {
	for _, config := range []*session.Config{{Header: []byte("x-session")}, {Cookie: "s", Path: "/", After: "; HttpOnly", TTL: 60e9}} {
		set := &stats.StatefulSession{}
		b := filtered(t, session.New("s", config, set), nil)
		b.endpoints("app", app1, app2)
		first := b.do(get("/"))
		field := "x-session: " + after(first, "x-session: ")
		if config.Cookie != "" {
			field = "Cookie: " + after(first, "set-cookie: ")
		}
		host := b.log.host()
		for range 5 {
			got := b.do(get("/", field))
			if b.log.host() != host || after(got, "set-cookie: ")+after(got, "x-session: ") != "" {
				t.Errorf("a client of %s went to %s, and was told %q", host, b.log.host(), got)
			}
		}
		if set.Routed.Value() != 5 {
			t.Errorf("%d requests went where they should, want 5", set.Routed.Value())
		}
		b.endpoints("app", app1)
		if b.do(get("/", field)); b.log.host() != app1.String() {
			t.Errorf("a client whose host has gone went to %s", b.log.host())
		}
		for _, request := range []string{get("/"), get("/", field)} {
			if n := allocations(t, session.New("s", config, set), request); n != 0 {
				t.Errorf("%q allocates %v times, want 0", request, n)
			}
		}
	}
}

// after is what stands in a response behind a text, to the end of the line or the first semicolon.
func after(response, text string) string {
	_, rest, ok := strings.Cut(response, text)
	if !ok {
		return ""
	}
	line, _, _ := strings.Cut(rest, "\r\n")
	line, _, _ = strings.Cut(line, ";")
	return line
}

// host is where the last request went.
func (l *logLine) host() string {
	_, rest, _ := strings.Cut(l.last(), "host=")
	host, _, _ := strings.Cut(rest, " ")
	return host
}
