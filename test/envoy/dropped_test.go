//go:build linux

package envoy_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	malla "github.com/mallamesh/malla/app/proxy"
	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/envoy/scenario"
	"github.com/mallamesh/malla/test/process"
)

var (
	drop   = flag.String("drop", "", "take the fields of this `pattern`, one after another, out of the scenarios that show them, and expect malla to answer otherwise")
	dropIn = flag.String("drop-in", "", "take them out of the scenarios of this `pattern`, instead of those that show them")
)

// A lack is a scenario without a field of its configuration, under a name of its own.
type lack struct {
	*scenario.Scenario
	of, field string // the scenario that it is made of, and what it lacks
}

// TestDropped shows that a field which docs/xds.md says a scenario shows matters to it: without the field, malla
// answers otherwise, or refuses the rest; or takes it, if it refuses the whole. It is only run when asked for:
// go test ./test/envoy -run TestDropped -drop Cluster.http2_protocol_options
func TestDropped(t *testing.T) {
	if *drop == "" {
		t.Skip("-drop chooses fields")
	}
	lacks := lacks(t)
	without := map[string]string{}
	var all, shared []*scenario.Scenario
	for name, l := range lacks {
		without[name] = l.field
		all = append(all, l.Scenario)
		if l.Alone == "" && !l.Refused {
			shared = append(shared, l.Scenario)
		}
	}
	pki, err := peer.NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	again, patience = 0, 3*time.Second // they are to differ
	whole := program{path: process.Proxy(t)}
	lacking := program{path: whole.path, without: without}
	sides := []*side{newSide(t, whole, pki, shared), newSide(t, lacking, pki, shared)}
	shared = sides[1].begin(t, slices.DeleteFunc(shared, func(s *scenario.Scenario) bool { return !sides[1].takes(t, s) }))
	sides[0].launch(t, shared, 1)
	sides[0].ready(t, shared, 1)
	live(t, sides)
	own := make(chan struct{}, aloneAtOnce)
	byDir(t, all, "healthcheck", func(t *testing.T, s *scenario.Scenario) {
		sides := sides
		switch {
		case s.Refused:
			if side := newSide(t, lacking, pki, []*scenario.Scenario{s}); !side.takes(t, s) {
				t.Errorf("%s does not notice that %s is not there: it is refused for something else: %s", lacks[s.Name].of, without[s.Name], side.refused[s.Name])
			}
			return
		case s.Alone != "":
			own <- struct{}{}
			defer func() { <-own }()
			sides = newSides(t, []program{whole, lacking}, pki, []*scenario.Scenario{s}, s.Workers)
		}
		if sides[1].refused[s.Name] != "" {
			return
		}
		why := play(sides, s).first(s)
		if *show {
			t.Logf("%s without %s: %s", lacks[s.Name].of, without[s.Name], why)
		}
		if why == "" {
			t.Errorf("%s does not notice that %s is not there", lacks[s.Name].of, without[s.Name])
		}
	})
}

// lacks returns what -drop and -drop-in choose, by the names that the scenarios have now.
func lacks(t *testing.T) map[string]*lack {
	t.Helper()
	proofs, err := scenario.Proofs(os.DirFS("../../proxy/build/testdata/fields"))
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]*scenario.Scenario{}
	sets := map[string][]string{} // fields to the scenarios that -drop-in chooses and that set them
	for _, s := range load(t) {
		by[s.Name] = s
		if *dropIn == "" || !matches(*dropIn, s.Name) {
			continue
		}
		set, err := s.Fields()
		if err != nil {
			t.Fatalf("%s: %v", s.Name, err)
		}
		for field := range set {
			sets[field] = append(sets[field], s.Name)
		}
	}
	out := map[string]*lack{}
	for _, field := range slices.Sorted(maps.Keys(proofs)) {
		if !matches(*drop, field) {
			continue
		}
		names := sets[field]
		if *dropIn == "" {
			names = []string{proofs[field]}
		}
		for _, name := range names {
			if s := by[name]; s != nil { // or a test shows it
				l := &lack{Scenario: new(*s), of: name, field: field}
				l.Name = fmt.Sprintf("%s-%d", name, len(out))
				l.Differs = nil
				out[l.Name] = l
			}
		}
	}
	return out
}

// takes reports whether malla takes a scenario's configuration, and notes it if not. Many do not, so it asks without
// starting a process.
func (s *side) takes(t *testing.T, sc *scenario.Scenario) bool {
	t.Helper()
	args := s.args(s.bootstrap(t, "validate.json", []*scenario.Scenario{sc}), "--mode", "validate")
	if err := malla.Command(context.Background(), "malla-proxy", args, io.Discard, io.Discard); err != nil {
		s.refused[sc.Name] = err.Error()
		return false
	}
	return true
}

// begin starts the process with those scenarios whose listeners open, and returns them.
func (s *side) begin(t *testing.T, some []*scenario.Scenario) []*scenario.Scenario {
	t.Helper()
	for {
		s.launch(t, some, 1)
		if s.lives(t) {
			return some
		}
		<-s.run.Done
		log := s.run.Log()
		left := slices.DeleteFunc(slices.Clone(some), func(sc *scenario.Scenario) bool {
			if strings.Contains(log, s.views[sc.Name].Prefix()) {
				s.refused[sc.Name] = "its listener does not open"
			}
			return s.refused[sc.Name] != ""
		})
		if len(left) == len(some) {
			t.Fatalf("malla has ended:\n%s", log)
		}
		some = left
	}
}
