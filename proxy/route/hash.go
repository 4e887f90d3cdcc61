package route

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/lb"
	"github.com/mallamesh/malla/proxy/uri"
)

// A Peer is what a hash may be made of beside the request.
type Peer struct {
	Client        netip.Addr     // as trusted headers or PROXY protocol say
	Remote, Local netip.AddrPort // of the connection; a new cookie is made of them
}

// A hashPolicy is a compiled HashPolicy.
type hashPolicy struct {
	HashPolicy
	header []byte
	regex  *substitution
	cookie []byte // `name="`, what a new cookie begins with
	after  []byte // what follows its value
}

func newHashPolicies(list []HashPolicy) ([]hashPolicy, error) {
	var out []hashPolicy
	for i, c := range list {
		p := hashPolicy{HashPolicy: c, header: []byte(lower(c.Header))}
		if c.HeaderRegex != "" {
			var err error
			if p.regex, err = newSubstitution(c.HeaderRegex, c.HeaderSubstitution); err != nil {
				return nil, fmt.Errorf("hash_policy[%d]: regex_rewrite: %w", i, err)
			}
		}
		if c.Cookie != "" {
			p.cookie = fmt.Appendf(nil, `%s="`, c.Cookie)
			p.after = c.cookieAttributes()
		}
		out = append(out, p)
	}
	return out, nil
}

// cookieAttributes is what Envoy writes after the value of a cookie that it makes.
func (c *HashPolicy) cookieAttributes() []byte {
	out := []byte{'"'}
	if c.CookieTTL != nil && *c.CookieTTL >= time.Second {
		out = fmt.Appendf(out, "; Max-Age=%d", *c.CookieTTL/time.Second)
	}
	if c.CookiePath != "" {
		out = fmt.Appendf(out, "; Path=%s", c.CookiePath)
	}
	for _, a := range c.CookieAttributes {
		out = fmt.Appendf(out, "; %s", a[0])
		if a[1] != "" {
			out = fmt.Appendf(out, "=%s", a[1])
		}
	}
	return append(out, "; HttpOnly"...)
}

// HasHash reports whether requests have a hash at all.
func (p *Policies) HasHash() bool { return len(p.hashes) > 0 }

// Hash returns the hash by which consistent load balancing chooses, Envoy's to the bit, and
// whether the request has anything that it is made of. A client without the cookie that a policy wants
// gets one: its set-cookie field is added to r.NewCookies, unless that is not wanted.
func (p *Policies) Hash(r *Request, newCookies bool) (hash uint64, ok bool) {
	for i := range p.hashes {
		one := &p.hashes[i]
		if h, found := one.hash(r, newCookies); found {
			hash = (hash<<1 | hash>>63) ^ h // rotated, so that equal policies do not cancel each other
			ok = true
		}
		if one.Terminal && ok {
			break
		}
	}
	return hash, ok
}

func (p *hashPolicy) hash(r *Request, newCookies bool) (uint64, bool) {
	switch {
	case p.Header != "":
		return p.ofHeader(r)
	case p.Cookie != "":
		if v := cookieValue(r.Headers, p.Cookie); len(v) > 0 {
			return lb.Hash(v), true
		}
		if p.CookieTTL == nil || !newCookies {
			return 0, false
		}
		return lb.Hash(p.makeCookie(r)), true
	case p.Query != "":
		_, query := uri.Split(r.Headers.Get(header.Path))
		if v, found := uri.Parameter(query, p.Query); found {
			return lb.Hash(v), true
		}
	case p.FilterState != "":
		if r.State != nil {
			if v, found := r.State.Get(p.FilterState); found {
				return lb.Hash(v), true
			}
		}
	case p.SourceIP && r.Peer.Client.IsValid():
		var text [46]byte
		return lb.Hash(r.Peer.Client.Unmap().AppendTo(text[:0])), true
	}
	return 0, false
}

// ofHeader hashes the values of a header in their own order, so that the order of fields does not matter.
func (p *hashPolicy) ofHeader(r *Request) (hash uint64, ok bool) {
	var room [8][]byte
	values := r.Headers.Values(room[:0], p.header)
	if len(values) == 0 {
		return 0, false
	}
	if p.regex != nil {
		for i, v := range values {
			values[i] = p.regex.replace(nil, v)
		}
	}
	slices.SortFunc(values, bytes.Compare)
	for _, v := range values {
		hash = lb.HashOn(hash, v)
	}
	return hash, true
}

// makeCookie makes a cookie for a client that has none and returns its value: a hash of
// the two ends of its connection.
func (p *hashPolicy) makeCookie(r *Request) (value []byte) {
	ends := r.Peer.Remote.AppendTo(nil)
	ends = r.Peer.Local.AppendTo(ends)
	value = fmt.Appendf(nil, "%016x", lb.Hash(ends))
	r.NewCookies = append(r.NewCookies, slices.Concat(p.cookie, value, p.after))
	return value
}

// CookieAttributes is what follows the value of a cookie that the proxy makes.
func CookieAttributes(ttl *time.Duration, path string, attributes [][2]string) string {
	p := HashPolicy{CookieTTL: ttl, CookiePath: path, CookieAttributes: attributes}
	return string(p.cookieAttributes()[1:]) // without the quotation mark
}

// cookieValue returns the first value of a cookie, without its quotes; empty if there is none.
func cookieValue(m *header.Map, name string) []byte {
	for i := range m.Len() {
		f := m.At(i)
		if f.Token != header.Cookie {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, []byte(";"))
			k, v, ok := bytes.Cut(bytes.TrimSpace(pair), []byte("="))
			if !ok || string(k) != name {
				continue
			}
			if n := len(v); n >= 2 && v[0] == '"' && v[n-1] == '"' {
				v = v[1 : n-1]
			}
			return v
		}
	}
	return nil
}
