package validate

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/regex"
)

// host checks a host name. Wildcards stand for at least one label, and only in front.
func (r *ruler) host(at *field.Path, host string, wildcard bool) {
	rest := host
	switch {
	case host == "":
		r.errorf(at, "missing; want a host name")
		return
	case strings.Contains(host, "*") && !wildcard:
		r.errorf(at, "found %q, want one host, without *", host)
		return
	case host == "*":
		return
	case strings.HasPrefix(host, "*."):
		rest = host[2:]
	}
	if _, err := netip.ParseAddr(rest); err == nil && rest == host {
		return
	}
	if !validHost(rest) {
		r.errorf(at, "found %q, want a host name such as reviews or reviews.prod.svc.cluster.local%s", host, map[bool]string{true: ", maybe with *. in front"}[wildcard])
	}
}

// validHost reports whether a name is made of DNS labels, in either case.
func validHost(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if len(name) > 253 || name == "" {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(validation.IsDNS1123Label(strings.ToLower(label))) > 0 {
			return false
		}
	}
	return true
}

func (r *ruler) port(at *field.Path, n uint32) {
	if n < 1 || n > 65535 {
		r.errorf(at, "found %d, want a port from 1 to 65535", n)
	}
}

// least checks a duration that was written; zero counts as not written.
func (r *ruler) least(at *field.Path, d *durationpb.Duration, least time.Duration) {
	if d == nil || d.AsDuration() == 0 {
		return
	}
	if v := d.AsDuration(); v < least {
		r.errorf(at, "found %s, want at least %s", v, least)
	}
}

// above is as least, but zero is wrong too.
func (r *ruler) above(at *field.Path, d *durationpb.Duration, least time.Duration) {
	if d != nil && d.AsDuration() < least {
		r.errorf(at, "found %s, want at least %s", d.AsDuration(), least)
	}
}

func (r *ruler) percent(at *field.Path, v float64) {
	if !(v >= 0 && v <= 100) {
		r.errorf(at, "found %v, want a percentage from 0 to 100", v)
	}
}

// maxRegex bounds patterns: a proxy matches them against every request.
const maxRegex = 4096

func (r *ruler) regex(at *field.Path, pattern string) *regexp.Regexp {
	if len(pattern) > maxRegex {
		r.errorf(at, "a pattern of %d bytes, want at most %d", len(pattern), maxRegex)
		return nil
	}
	re, err := regex.Compile(pattern)
	if err != nil {
		r.errorf(at, "found %.100q, want a regular expression in RE2's syntax: %s", pattern, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil
	}
	return re
}

// exportTo checks a list of namespaces that may see an object.
func (r *ruler) exportTo(at *field.Path, list []string) {
	for i, ns := range list {
		switch {
		case slices.Contains(list[:i], ns):
			r.errorf(at.Index(i), "found %q a second time", ns)
		case ns == "*" || ns == "~":
			if len(list) > 1 {
				r.errorf(at.Index(i), "found %q beside others; it says all there is to say", ns)
			}
		case ns == ".":
		case len(validation.IsDNS1123Label(ns)) > 0:
			r.errorf(at.Index(i), "found %q, want \"*\" (all), \".\" (the own one), \"~\" (none) or a namespace", ns)
		}
	}
}

func (r *ruler) labels(at *field.Path, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		for _, p := range validation.IsQualifiedName(key) {
			r.errorf(at.Child(key), "found %q: %s", key, problem(p))
		}
		for _, p := range validation.IsValidLabelValue(labels[key]) {
			r.errorf(at.Child(key), "found %q: %s", labels[key], problem(p))
		}
	}
}

// ip checks an address, and tells people of the zero-padded form that means
// different things to different programs.
func (r *ruler) ip(at *field.Path, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		r.errorf(at, "found %q, want an IP address", text)
	}
	return a, err == nil
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// oneSet returns the names whose value is true, sorted as given.
func oneSet(names []string, set ...bool) (found []string) {
	for i, is := range set {
		if is {
			found = append(found, names[i])
		}
	}
	return found
}
