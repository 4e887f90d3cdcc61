// Package headertometadata is the HTTP filter header_to_metadata: rules make metadata of the
// header fields of a request and of its response, or of what stands for those that are missing.
package headertometadata

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Config holds the rules of the filter, or of a route, which then count in their place. It must not change.
type Config struct{ Request, Response []Rule }

// A Rule is about one header field or cookie.
type Rule struct {
	Header  []byte // lower case; or
	Cookie  string
	Present *Pair // what is set if it is there, nil: nothing
	Missing *Pair // and if not
	Remove  bool  // the field ends here
}

// A Type says what a value is made into.
type Type uint8

// The types.
const (
	Text    Type = iota
	Number       // what is none is not set
	Message      // a google.protobuf.Value
)

// A Pair is what a rule sets.
type Pair struct {
	Namespace string // "": the filter's
	Key       string
	Value     string          // "": the field's own
	Rewrite   *route.Rewriter // of the field's own; nil: it stays
	Type      Type
	Base64    bool                      // the value is decoded
	Decode    func([]byte) (any, error) // of Message
}

// namespace is the filter's own.
const namespace = "envoy.filters.http.header_to_metadata"

// maxValue bounds a value; a longer one is not set.
const maxValue = 8 << 10

type factory struct {
	name              string
	config            *Config
	request, response counters
	stats             *stats.HeaderToMetadata
}

// counters are those of one direction.
type counters struct{ processed, added, missing *stats.Counter }

// New returns the factory of filters with a name in the chain. Without st nothing is counted.
func New(name string, c *Config, st *stats.HeaderToMetadata) stream.Factory {
	f := &factory{name: name, config: c, stats: st}
	if st == nil {
		f.stats = new(stats.HeaderToMetadata)
	}
	f.request = counters{&f.stats.RequestRulesProcessed, &f.stats.RequestMetadataAdded, &f.stats.RequestHeaderNotFound}
	f.response = counters{&f.stats.ResponseRulesProcessed, &f.stats.ResponseMetadataAdded, &f.stats.ResponseHeaderNotFound}
	return f
}

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return f }

func (f *factory) rules(s *stream.Stream) *Config {
	if c, ok := s.FilterConfig(f.name).(*Config); ok {
		return c
	}
	return f.config
}

// OnRequest applies the rules of requests.
func (f *factory) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	f.apply(f.rules(s).Request, m, &s.Rec.Dynamic, &f.request)
	return stream.Continue
}

// OnResponse applies the rules of responses.
func (f *factory) OnResponse(s *stream.Stream, m *header.Map) stream.Verdict {
	f.apply(f.rules(s).Response, m, &s.Rec.Dynamic, &f.response)
	return stream.Continue
}

func (f *factory) apply(rules []Rule, m *header.Map, d *metadata.Dynamic, count *counters) {
	for i := range rules {
		r := &rules[i]
		v, ok := r.value(m)
		count.processed.Inc()
		p := r.Present
		if !ok {
			if p = r.Missing; p != nil {
				count.missing.Inc()
			}
		} else if r.Remove {
			m.RemoveName(r.Header)
		}
		if p == nil {
			continue
		}
		value, ok := f.make(p, v)
		if !ok {
			continue
		}
		ns := p.Namespace
		if ns == "" {
			ns = namespace
		}
		d.Set(ns, p.Key, value)
		count.added.Inc()
	}
}

// value returns what a rule is about: all fields of the name, joined, or a cookie that is not empty.
func (r *Rule) value(m *header.Map) (v []byte, ok bool) {
	if r.Cookie != "" {
		v, _ = route.Cookie(m, r.Cookie)
		return v, len(v) > 0
	}
	for i := range m.Len() {
		f := m.At(i)
		if !bytes.Equal(f.Name, r.Header) {
			continue
		}
		if !ok {
			v, ok = f.Value, true
			continue
		}
		v = append(append(bytes.Clone(v), ','), f.Value...)
	}
	return v, ok
}

// make makes the value that is set, if there is one.
func (f *factory) make(p *Pair, v []byte) (any, bool) {
	if p.Value != "" {
		v = []byte(p.Value)
	} else if p.Rewrite != nil {
		if v = p.Rewrite.Replace(v); len(v) == 0 {
			f.stats.RegexSubstitutionFailed.Inc()
		}
	}
	if len(v) == 0 {
		return nil, false
	}
	if len(v) >= maxValue {
		f.stats.HeaderValueTooLong.Inc()
		return nil, false
	}
	if p.Base64 {
		decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(string(v), "="))
		if err != nil || len(decoded) == 0 {
			f.stats.Base64DecodeFailed.Inc()
			return nil, false
		}
		v = decoded
	}
	switch p.Type {
	case Number:
		n, err := strconv.ParseFloat(strings.TrimSpace(string(v)), 64)
		return n, err == nil
	case Message:
		out, err := p.Decode(v)
		return out, err == nil
	}
	return string(v), true
}

// OnUnasked has nothing to prepare: the rules are those of the response.
func (f *factory) OnUnasked(*stream.Stream) {}
