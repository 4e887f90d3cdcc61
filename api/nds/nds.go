// Package nds is the table of names that a control plane gives to the DNS proxy beside an
// application: Istio's message NameTable, and in fields of our own, which Istio's agent
// passes over, in how many steps the addresses of a name are further away, and what
// happens to questions by policy.
//
// The message is read and written here, field by field: nothing else needs its Go type.
package nds

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Type is the type of the resource in the discovery protocol.
const Type = "type.googleapis.com/istio.networking.nds.v1.NameTable"

// A Table is what names mean.
type Table struct {
	Names map[string]Name // by full name; "*.x" stands for all below x
	Rules []Rule          // the first whose hosts match counts
}

// A Name is what one name means.
type Name struct {
	Addrs     []netip.Addr // the nearest first
	Tiers     []int        // how many addresses are in each step of distance; none: all are alike
	Registry  string       // Kubernetes or External
	Namespace string
}

// A Rule says what happens to questions for some names.
type Rule struct {
	From    string   // the policy, for the log
	Hosts   []string // exact, "*.x", or "*"
	Rcode   int      // of the answer, 0: what the name means
	Delay   time.Duration
	Percent float64 // of the questions, 0 to 100
	Log     bool
}

// Fields of the messages. From 100 on they are ours.
const (
	tableNames, tableRules                                             = 1, 101
	entryKey, entryValue                                               = 1, 2
	nameIPs, nameRegistry, nameNamespace, nameTiers                    = 1, 2, 4, 100
	ruleFrom, ruleHosts, ruleRcode, ruleDelay, rulePercent, ruleLogged = 1, 2, 3, 4, 5, 6
)

// Append appends the message. Equal tables are equal bytes.
func (t *Table) Append(dst []byte) []byte {
	for _, name := range slices.Sorted(maps.Keys(t.Names)) {
		n := t.Names[name]
		var value []byte
		for _, a := range n.Addrs {
			value = text(value, nameIPs, a.String())
		}
		value = text(value, nameRegistry, n.Registry)
		value = text(value, nameNamespace, n.Namespace)
		for _, size := range n.Tiers {
			value = number(value, nameTiers, uint64(size))
		}
		entry := text(nil, entryKey, name)
		dst = bytes(dst, tableNames, bytes(entry, entryValue, value))
	}
	for _, r := range t.Rules {
		m := text(nil, ruleFrom, r.From)
		for _, h := range r.Hosts {
			m = text(m, ruleHosts, h)
		}
		m = number(m, ruleRcode, uint64(r.Rcode))
		m = number(m, ruleDelay, uint64(r.Delay/time.Millisecond))
		m = protowire.AppendTag(m, rulePercent, protowire.Fixed64Type)
		m = protowire.AppendFixed64(m, math.Float64bits(r.Percent))
		if r.Log {
			m = number(m, ruleLogged, 1)
		}
		dst = bytes(dst, tableRules, m)
	}
	return dst
}

func bytes(dst []byte, field protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

func text(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func number(dst []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), n)
}

// Parse reads a message.
func Parse(b []byte) (*Table, error) {
	t := &Table{Names: map[string]Name{}}
	err := fields(b, func(field protowire.Number, v value) error {
		switch field {
		case tableNames:
			return t.entry(v.bytes)
		case tableRules:
			r, err := parseRule(v.bytes)
			t.Rules = append(t.Rules, r)
			return err
		}
		return nil
	})
	return t, err
}

func (t *Table) entry(b []byte) error {
	var name string
	var n Name
	err := fields(b, func(field protowire.Number, v value) error {
		switch field {
		case entryKey:
			name = string(v.bytes)
		case entryValue:
			return n.parse(v.bytes)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("name %q: %w", name, err)
	}
	t.Names[name] = n
	return nil
}

func (n *Name) parse(b []byte) error {
	err := fields(b, func(field protowire.Number, v value) error {
		switch field {
		case nameIPs:
			a, err := netip.ParseAddr(string(v.bytes))
			if err != nil {
				return err
			}
			n.Addrs = append(n.Addrs, a.Unmap())
		case nameRegistry:
			n.Registry = string(v.bytes)
		case nameNamespace:
			n.Namespace = string(v.bytes)
		case nameTiers:
			n.Tiers = append(n.Tiers, int(min(v.number, math.MaxInt32)))
		}
		return nil
	})
	left := len(n.Addrs)
	for _, size := range n.Tiers {
		if left -= size; size == 0 || left < 0 {
			return fmt.Errorf("tiers %v do not divide %d addresses", n.Tiers, len(n.Addrs))
		}
	}
	return err
}

func parseRule(b []byte) (r Rule, err error) {
	err = fields(b, func(field protowire.Number, v value) error {
		switch field {
		case ruleFrom:
			r.From = string(v.bytes)
		case ruleHosts:
			r.Hosts = append(r.Hosts, string(v.bytes))
		case ruleRcode:
			r.Rcode = int(min(v.number, 15)) // what fits into the header
		case ruleDelay:
			r.Delay = time.Duration(min(v.number, uint64(time.Hour/time.Millisecond))) * time.Millisecond
		case rulePercent:
			if r.Percent = math.Float64frombits(v.number); !(r.Percent >= 0 && r.Percent <= 100) {
				return fmt.Errorf("percent: found %v, want 0 to 100", r.Percent)
			}
		case ruleLogged:
			r.Log = v.number != 0
		}
		return nil
	})
	return r, err
}

// A value is that of one field: bytes, or a number.
type value struct {
	bytes  []byte
	number uint64
}

// fields reads the fields of a message, one after the other. Of a field with another kind of value
// than ours, what we do not look for is empty.
func fields(b []byte, each func(protowire.Number, value) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v value
		switch kind {
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			v.number, n = protowire.ConsumeFixed64(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := each(field, v); err != nil {
			return err
		}
	}
	return nil
}
