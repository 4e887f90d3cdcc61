package dns

import (
	"strings"
	"time"
)

// A Rule says what happens to questions for some names.
type Rule struct {
	From    string   // who says so, for the log
	Hosts   []string // exact, "*.example.com" for all below example.com, or "*"
	Rcode   int      // of the answer; 0: what the name means
	Delay   time.Duration
	Percent float64 // of the questions
	Log     bool
}

// Rules are tried in their order: the first whose hosts match a name counts. They never change.
type Rules []Rule

// For returns the rule for a name, nil if there is none.
func (r Rules) For(name string) *Rule {
	name = canonical(name)
	for i := range r {
		for _, h := range r[i].Hosts {
			below, wild := strings.CutPrefix(h, "*.")
			if h == name || h == "*" || wild && strings.HasSuffix(name, "."+below) {
				return &r[i]
			}
		}
	}
	return nil
}

// A Source says where an answer comes from.
type Source string

// The sources of answers.
const (
	FromTable   Source = "table"
	FromForward Source = "upstream"
	FromRule    Source = "policy"
)

// An Asked is one question and what became of it.
type Asked struct {
	Name   string // without the dot at its end
	Type   string // A, AAAA, ...
	Rcode  string // NOERROR, NXDOMAIN, ...
	Source Source
	Took   time.Duration
	Answer []string // addresses and names in it
	Rule   *Rule    // that it fell under; nil: none
}
