package dns

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func TestRulesFor(t *testing.T) {
	rules := Rules{{From: "exact", Hosts: []string{"a.test"}}, {From: "below", Hosts: []string{"*.a.test"}}, {From: "all", Hosts: []string{"*"}}}
	for name, want := range map[string]string{"a.test.": "exact", "A.TEST": "exact", "x.a.test": "below", "y.x.a.test": "below", "xa.test": "all"} {
		if got := rules.For(name); got == nil || got.From != want {
			t.Errorf("%s falls under %+v, want %s", name, got, want)
		}
	}
	if got := rules[:2].For("b.test"); got != nil {
		t.Errorf("b.test falls under %+v", got)
	}
}

// Rules deny and delay a share of the questions, and every question is told of.
func TestRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testServer()
		var told []Asked
		s.Observe = func(a *Asked) { told = append(told, *a) }
		s.SetRules(Rules{
			{From: "p/deny", Hosts: []string{"web.default.svc.cluster.local"}, Rcode: dns.RcodeNameError, Percent: 100},
			{From: "p/slow", Hosts: []string{"v4.default.svc.cluster.local"}, Delay: 3 * time.Second, Percent: 100},
			{From: "p/never", Hosts: []string{"db.default.svc.cluster.local"}, Rcode: dns.RcodeRefused, Percent: 0},
		})
		for _, test := range []struct {
			name, rcode string
			source      Source
			took        time.Duration
			rule        string
		}{
			{"web.default.svc.cluster.local.", "NXDOMAIN", FromRule, 0, "p/deny"},
			{"v4.default.svc.cluster.local.", "NOERROR", FromTable, 3 * time.Second, "p/slow"},
			{"db.default.svc.cluster.local.", "NOERROR", FromTable, 0, "p/never"},
			{"www.example.com.", "NOERROR", FromForward, 0, ""},
		} {
			told = nil
			a := s.judge(context.Background(), new(dns.Msg).SetQuestion(test.name, dns.TypeA))
			if got := dns.RcodeToString[a.Rcode]; got != test.rcode {
				t.Errorf("%s: %s, want %s", test.name, got, test.rcode)
			}
			if len(told) != 1 || told[0].Rcode != test.rcode || told[0].Source != test.source || told[0].Took != test.took || told[0].Type != "A" {
				t.Errorf("%s: told %+v, want %+v", test.name, told, test)
				continue
			}
			if r := told[0].Rule; (r == nil) != (test.rule == "") || r != nil && r.From != test.rule {
				t.Errorf("%s: rule %+v, want %q", test.name, r, test.rule)
			}
		}
	})
}

// The nearest come first; who is as far as others comes first as often as they.
func TestTiers(t *testing.T) {
	s := &Server{Partial: true}
	s.SetTable(NewTable(nil, map[string]Record{"a.test": {Addrs: addrs("10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3", "fd00::3"), Tiers: []int{3, 2}}}))
	first := map[string]int{}
	for range 200 {
		var got []string
		for _, rr := range s.judge(context.Background(), new(dns.Msg).SetQuestion("a.test.", dns.TypeA)).Answer {
			got = append(got, rr.(*dns.A).A.String())
		}
		if len(got) != 3 || got[2] != "10.0.0.3" {
			t.Fatalf("got %v, want 10.0.0.3 last", got)
		}
		first[got[0]]++
	}
	if len(first) != 2 {
		t.Errorf("first came %v, want both of the first tier", first)
	}
}

// A partial table knows addresses; for what else there is of a name others are asked, but not whether it is there.
func TestPartial(t *testing.T) {
	var forwarded []string
	s := &Server{Partial: true, Forward: func(_ context.Context, q *dns.Msg) (*dns.Msg, error) {
		forwarded = append(forwarded, q.Question[0].Name)
		return new(dns.Msg).SetRcode(q, dns.RcodeNameError), nil
	}}
	s.SetTable(NewTable(nil, map[string]Record{"a.test": {Addrs: addrs("10.0.0.1")}}))
	for qtype, want := range map[uint16]string{dns.TypeAAAA: "NOERROR", dns.TypeSRV: "NOERROR"} {
		a := s.judge(context.Background(), new(dns.Msg).SetQuestion("a.test.", qtype))
		if got := dns.RcodeToString[a.Rcode]; got != want || len(a.Answer) > 0 {
			t.Errorf("type %d: %s %v, want %s", qtype, got, a.Answer, want)
		}
	}
	if !slices.Equal(forwarded, []string{"a.test."}) {
		t.Errorf("asked of others: %s", strings.Join(forwarded, " "))
	}
}
