package route

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// hosts finds virtual hosts: exact, then the longest "*suffix", then the longest
// "prefix*", then "*". Wildcards of one length share a table, so that the cost is the
// number of different lengths.
type hosts struct {
	exact              map[string]*VirtualHost
	suffix, prefix     map[string]*VirtualHost
	suffixes, prefixes []int // lengths, longest first
	any                *VirtualHost
	ignorePort         bool
}

func (h *hosts) add(domain string, v *VirtualHost) error {
	domain = lower(domain)
	table, key := &h.exact, domain
	switch {
	case domain == "":
		return fmt.Errorf("an empty domain, want a name or *")
	case domain == "*":
		if h.any != nil {
			return fmt.Errorf("domain * is that of %s already, want it once", h.any.Name)
		}
		h.any = v
		return nil
	case domain[0] == '*':
		table, key = &h.suffix, domain[1:]
		h.suffixes = append(h.suffixes, len(key))
	case strings.HasSuffix(domain, "*"):
		table, key = &h.prefix, domain[:len(domain)-1]
		h.prefixes = append(h.prefixes, len(key))
	}
	if strings.Contains(key, "*") {
		return fmt.Errorf("domain %q has a * inside, want it at one end", domain)
	}
	if *table == nil {
		*table = map[string]*VirtualHost{}
	}
	if other := (*table)[key]; other != nil {
		return fmt.Errorf("domain %q is that of %s already, want it once", domain, other.Name)
	}
	(*table)[key] = v
	return nil
}

func (h *hosts) done() {
	h.suffixes, h.prefixes = longestFirst(h.suffixes), longestFirst(h.prefixes)
}

func longestFirst(lengths []int) []int {
	slices.Sort(lengths)
	lengths = slices.Compact(lengths)
	slices.Reverse(lengths)
	return lengths
}

// find returns the virtual host of a lower-case name. A wildcard stands for at least one character.
func (h *hosts) find(name []byte) *VirtualHost {
	if h.ignorePort {
		name = stripPort(name)
	}
	if v := h.exact[string(name)]; v != nil {
		return v
	}
	for _, n := range h.suffixes {
		if len(name) > n {
			if v := h.suffix[string(name[len(name)-n:])]; v != nil {
				return v
			}
		}
	}
	for _, n := range h.prefixes {
		if len(name) > n {
			if v := h.prefix[string(name[:n])]; v != nil {
				return v
			}
		}
	}
	return h.any
}

// stripPort cuts ":port" off; a v6 address keeps its brackets.
func stripPort(host []byte) []byte {
	i := bytes.LastIndexByte(host, ':')
	if i < 0 || bytes.IndexByte(host[i:], ']') >= 0 {
		return host
	}
	for _, c := range host[i+1:] {
		if c < '0' || c > '9' {
			return host
		}
	}
	if bytes.IndexByte(host[:i], ':') >= 0 && host[i-1] != ']' {
		return host // a v6 address without brackets
	}
	return host[:i]
}

// lowered returns the name in lower case, copied only if it is not already.
func (r *Request) lowered(name []byte) []byte {
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			r.scratch = append(r.scratch[:0], name...)
			for ; i < len(name); i++ {
				r.scratch[i] = lowerByte(name[i])
			}
			return r.scratch
		}
	}
	return name
}
