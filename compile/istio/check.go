package istio

import (
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/regex"
	"github.com/mallamesh/malla/model"
)

// The checks here are the last door: objects have been validated before, but
// one that slipped through (in a cluster whose webhook was away) must not make
// proxies refuse the table in which everybody's routes are.

func (c *compiler) regex(pattern string, at *field.Path) {
	if pattern == "" {
		c.out.Errors.Addf(at, "is empty, want a regular expression")
	} else if _, err := regex.Compile(pattern); err != nil {
		c.out.Errors.Addf(at, "is %q, want a regular expression in RE2's syntax: %v", pattern, err)
	}
}

// text checks a match. An empty prefix is in every string.
func (c *compiler) text(m *model.StringMatch, at *field.Path) *model.StringMatch {
	switch {
	case m == nil:
	case m.Kind == model.Regex:
		c.regex(m.Value, at.Child("regex"))
	case m.Kind == model.Prefix && m.Value == "":
		return &model.StringMatch{}
	}
	return m
}

func (c *compiler) named(list []model.NamedMatch, at *field.Path) []model.NamedMatch {
	for i, m := range list {
		if m.Name == "" {
			c.out.Errors.Addf(at, "has an empty name")
		}
		list[i].StringMatch = *c.text(&m.StringMatch, at.Child(m.Name))
	}
	return list
}

var (
	headerName   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z:-]+$")
	headerFormat = regexp.MustCompile(`^([^%]|%%|%[A-Z0-9_]+(\([^)]*\))?(:[0-9]+)?%)*$`)
)

func (c *compiler) operations(o model.HeaderOps, at *field.Path) model.HeaderOps {
	for _, side := range []struct {
		name   string
		change model.HeaderChange
	}{{"request", o.Request}, {"response", o.Response}} {
		at := at.Child(side.name)
		for _, h := range append(append([]model.Header(nil), side.change.Set...), side.change.Add...) {
			switch {
			case !headerName.MatchString(h.Name):
				c.out.Errors.Addf(at, "has the header %q, want a name of letters, digits and dashes", h.Name)
			case strings.EqualFold(h.Name, "content-length"):
				c.out.Errors.Addf(at.Child(h.Name), "says how long a body is, which only the body itself can say")
			case !c.oneLine(h.Value, at.Child(h.Name)):
			case !headerFormat.MatchString(h.Value):
				c.out.Errors.Addf(at.Child(h.Name), "is %q, want %%%% for a percent sign, or a command such as %%REQ(x-name)%%", h.Value)
			}
		}
		for i, name := range side.change.Remove {
			if !headerName.MatchString(name) {
				c.out.Errors.Addf(at.Child("remove").Index(i), "is %q, want the name of a header", name)
			}
		}
	}
	return o
}

// oneLine refuses text that would end the line of a message that it becomes part of.
func (c *compiler) oneLine(text string, at *field.Path) bool {
	ok := !strings.ContainsAny(text, "\r\n\x00")
	if !ok {
		c.out.Errors.Addf(at, "has a line break in its value")
	}
	return ok
}

// duration reads a span of time. Envoy counts in milliseconds and takes no
// smaller one, but for zero, which means that nothing was said.
func (c *compiler) duration(d *durationpb.Duration, at *field.Path) time.Duration {
	v := duration(d)
	if v < 0 || v > 0 && v < time.Millisecond {
		c.out.Errors.Addf(at, "is %s, want at least 1ms", v)
	}
	return v
}

func (c *compiler) status(code uint32, at *field.Path) {
	if code < 200 || code > 599 {
		c.out.Errors.Addf(at, "is %d, want a status from 200 to 599", code)
	}
}

func (c *compiler) share(percent float64, at *field.Path) {
	if !(percent >= 0 && percent <= 100) {
		c.out.Errors.Addf(at, "is %v, want a percentage from 0 to 100", percent)
	}
}

// IsHost reports whether proxies take a name for hosts: one name, *.x, or * for any.
func IsHost(name string) bool {
	rest := strings.TrimPrefix(name, "*.")
	return name == "*" || rest != "" && !strings.ContainsFunc(rest, func(r rune) bool { return r <= ' ' || r == '*' || r == 0x7f })
}

// sniHosts checks names of TLS: exact, *.x, or * for any.
func (c *compiler) sniHosts(names []string, at *field.Path) []string {
	var out []string
	for i, n := range names {
		if !IsHost(n) {
			c.out.Errors.Addf(at.Index(i), "is %q, want a host, *.host or *", n)
		}
		out = append(out, strings.ToLower(n))
	}
	return out
}
