package listen

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/proxyproto"
)

// readProxy reads the PROXY protocol's header at the beginning of b. It returns how much of b that is,
// and whether the connection goes on.
func (c *Conn) readProxy(b []byte) (n int, done bool) {
	p := c.Listener.Proxy
	one, two := !p.DisallowV1 && proxyproto.Begins(b, proxyproto.V1), !p.DisallowV2 && proxyproto.Begins(b, proxyproto.V2)
	if p.Optional && !one && !two {
		p.Stats.NotFoundAllowed.Inc()
		return 0, true
	}
	h, n, err := proxyproto.Parse(b)
	if errors.Is(err, proxyproto.ErrMore) {
		return 0, false
	}
	version := &p.Stats.V1
	if h.Version == proxyproto.V2 {
		version = &p.Stats.V2
	}
	if err != nil {
		if h.Version == 0 {
			p.Stats.NotFoundDisallowed.Inc()
		} else {
			version.Error.Inc()
		}
		p.Errors.Error.Inc()
		c.refuse()
		return len(b), false
	}
	version.Found.Inc()
	c.introduced = true
	if h.Version == proxyproto.V1 && p.DisallowV1 || h.Version == proxyproto.V2 && p.DisallowV2 {
		version.Disallowed.Inc()
		c.refuse()
		return len(b), false
	}
	if !h.Local && !(c.take(&h) && c.extensions(&h)) {
		version.Error.Inc()
		p.Errors.Error.Inc()
		c.refuse()
		return len(b), false
	}
	return n, true
}

// Origin tells those who connect to hosts for whom they do it.
func (c *Conn) Origin() pool.Origin {
	o := pool.Origin{Source: c.Remote, Destination: c.Local, TLVs: c.TLVs}
	if src := c.Listener.OriginalSrc; src != nil && c.Remote.Addr().IsValid() {
		o.Transparent, o.Mark = true, src.Mark
	}
	return o
}

// refuse closes a connection whose first bytes are wrong, by a reset, as a close with unread bytes is.
func (c *Conn) refuse() {
	c.Release()
	c.Worker.Loop.Cancel(&c.timer)
	c.Reset()
}

// take gives the connection the header's addresses.
func (c *Conn) take(h *proxyproto.Header) bool {
	if h.Source.Addr().Is4() != h.Destination.Addr().Is4() {
		return false
	}
	p := c.Listener.Proxy
	c.Remote = h.Source
	if !p.KeepLocal || !c.Restored {
		if c.Local != h.Destination {
			c.Local, c.Restored = h.Destination, true
		}
	}
	return true
}

// extensions keeps those extensions of a header that are wanted.
func (c *Conn) extensions(h *proxyproto.Header) bool {
	p := c.Listener.Proxy
	if len(h.TLVs) == 0 || p.Pass == nil && len(p.Rules) == 0 {
		return true
	}
	list, err := proxyproto.SplitTLVs(h.TLVs)
	if err != nil {
		return false
	}
	var found map[string]string
	var bytes map[string]map[string][]byte // by namespace and key
	for _, t := range list {
		if p.Pass != nil && p.Pass(t.Type) {
			c.TLVs = proxyproto.AppendTLV(c.TLVs, t)
		}
		rule, ok := p.Rules[t.Type]
		switch {
		case !ok:
		case !p.InState:
			c.Dynamic.Set(rule.Namespace, rule.Key, rule.text(t.Value))
			if bytes == nil {
				bytes = map[string]map[string][]byte{}
			}
			if bytes[rule.Namespace] == nil {
				bytes[rule.Namespace] = map[string][]byte{}
			}
			bytes[rule.Namespace][rule.Key] = slices.Clone(t.Value)
		case found == nil:
			found = map[string]string{rule.Key: rule.text(t.Value)}
		default:
			found[rule.Key] = rule.text(t.Value)
		}
	}
	for namespace, values := range bytes {
		c.Dynamic.PutMessage(namespace, p.Message(values))
	}
	if found != nil {
		c.Say(func(r *access.Record) { sayExtensions(&r.State, found) })
	}
	return true
}

// StateTLVs is the key under which filters find the extensions that a client's header had, each as a field.
const StateTLVs = "envoy.network.proxy_protocol.tlv"

func sayExtensions(s *access.State, found map[string]string) {
	all, err := json.Marshal(found)
	if err != nil {
		panic("listen: texts are no JSON: " + err.Error())
	}
	keys := slices.Sorted(maps.Keys(found))
	values := make([][]byte, len(keys))
	for i, k := range keys {
		values[i] = []byte(found[k])
	}
	access.NewObject(StateTLVs, keys...).Set(s, all, all, values...)
}

// A TLVRule says where an extension is kept that a client's header may have.
type TLVRule struct {
	Namespace, Key string
	Base64         bool // its text is the bytes in Base64
}

// text makes a text of an extension's bytes. What is no UTF-8 is written as !.
func (r TLVRule) text(b []byte) string {
	if r.Base64 {
		return base64.StdEncoding.EncodeToString(b)
	}
	var out strings.Builder
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		if c == utf8.RuneError && n == 1 {
			c = '!'
		}
		out.WriteRune(c)
		b = b[n:]
	}
	return out.String()
}
