package translate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

// A listener is a test that may fail.
type listener struct {
	testing.TB
	said []string
}

func (l *listener) Errorf(format string, args ...any) {
	l.said = append(l.said, fmt.Sprintf(format, args...))
}
func (l *listener) Failed() bool        { return len(l.said) > 0 }
func (l *listener) Logf(string, ...any) {}

// TestMutantsAreSeen breaks what TestBoundaries promises, and wants it to say so.
func TestMutantsAreSeen(t *testing.T) {
	seeds := seedDocuments(t)
	for _, test := range []struct {
		name, kind, want string
		broken           broken
	}{
		{"a panic at weights above 60,000", "VirtualService", "panic: weight 65535", broken{compile: func(mutant *config.Object, m *model.Mesh) {
			for _, r := range rulesOf(mutant, m) {
				for _, h := range r.HTTP {
					for _, d := range h.Forward {
						if d.Weight > 60_000 {
							panic(fmt.Sprint("weight ", d.Weight))
						}
					}
				}
			}
		}}},
		{"a panic at the last port", "ServiceEntry", "panic: port 65535", broken{compile: func(mutant *config.Object, m *model.Mesh) {
			for _, s := range m.Registry.Services {
				for _, p := range s.Ports {
					if s.Namespace == "mutant" && p.Number == 65_535 {
						panic(fmt.Sprint("port ", p.Number))
					}
				}
			}
		}}},
		{"a host's routes leak into another's", "VirtualService", "of a bystander was changed", broken{compile: func(mutant *config.Object, m *model.Mesh) {
			m.Rules = slices.Clone(m.Rules)
			for i, r := range m.Rules {
				if r.From.Namespace == "other" && r.From.Name == "web" {
					leak := *r
					for _, theirs := range rulesOf(mutant, m) {
						leak.HTTP = slices.Concat(theirs.HTTP, leak.HTTP)
					}
					m.Rules[i] = &leak
				}
			}
		}}},
		{"rules hold for another's host", "VirtualService", "of a bystander was changed", broken{compile: func(mutant *config.Object, m *model.Mesh) {
			i := slices.IndexFunc(m.Rules, func(r *model.RouteRules) bool { return r.From.Namespace == "other" })
			for _, theirs := range rulesOf(mutant, m) {
				mine := *m.Rules[i]
				mine.HTTP = theirs.HTTP
				m.Rules = append([]*model.RouteRules{&mine}, m.Rules...)
			}
		}}},
		{"a policy holds for another's host", "DestinationRule", "of a bystander was changed", broken{compile: func(mutant *config.Object, m *model.Mesh) {
			m.Policies = slices.Clone(m.Policies)
			for i, p := range m.Policies {
				for _, theirs := range m.Policies {
					if p.From.Namespace == "other" && theirs.From.Namespace == "mutant" {
						both := *p
						both.Policy = theirs.Policy
						m.Policies[i] = &both
					}
				}
			}
			m.IndexPolicies()
		}}},
		{"everything is accepted", "VirtualService", "cannot be read", broken{lax: true}},
		{"everything is accepted", "DestinationRule", "cannot be read", broken{lax: true}},
	} {
		t.Run(test.name+" of "+test.kind, func(t *testing.T) {
			t.Parallel()
			k, ok := kind.Named(test.kind)
			if !ok {
				t.Fatal("no such kind")
			}
			w := newBystander(t)
			w.broken = test.broken
			l := &listener{TB: t}
			func() {
				defer func() { _ = recover() }() // it is in what was said
				boundaries(l, w, k, seeds[k.Key()])
			}()
			if !slices.ContainsFunc(l.said, func(text string) bool { return strings.Contains(text, test.want) }) {
				t.Errorf("nobody says %q, but %.500q", test.want, l.said)
			}
		})
	}
}

// rulesOf are the mutant's.
func rulesOf(mutant *config.Object, m *model.Mesh) (out []*model.RouteRules) {
	for _, r := range m.Rules {
		if r.From.Namespace == mutant.Namespace {
			out = append(out, r)
		}
	}
	return out
}
