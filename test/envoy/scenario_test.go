//go:build linux

package envoy_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/envoy/scenario"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

var show = flag.Bool("show", false, "print what was seen of Envoy and of malla for every scenario that is run")

// atOnce is how many scenarios are played at the same time: most of their time is
// waiting. Few of them may have processes of their own at that.
const (
	atOnce      = 24
	aloneAtOnce = 3
)

// together is how many scenarios share a process of each proxy: a start costs half a second, but who asks for
// statistics has a proxy look through those of all of them, a thousand for every cluster.
const together = 120

func load(t *testing.T) []*scenario.Scenario {
	t.Helper()
	all, err := scenario.Load(os.DirFS("testdata"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestScenarios gives one configuration and the same bytes to the real Envoy and to
// malla-proxy: what is seen must be the same, but for what a scenario says differs.
func TestScenarios(t *testing.T) {
	programs := []program{{path: process.Envoy(t), envoy: true}, {path: process.Proxy(t)}}
	all := slices.DeleteFunc(load(t), func(s *scenario.Scenario) bool { return !wanted("TestScenarios", s.Name) })
	all = varied(t, all)
	pki, err := peer.NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	t.Cleanup(func() { spent.since(began, "scenarios in all") })
	shared := slices.DeleteFunc(slices.Clone(all), func(s *scenario.Scenario) bool { return s.Alone != "" || s.Refused || needs(s) != nil })
	sides := map[string][]*side{} // by scenario
	hands := dealt(shared, together)
	for _, some := range hands {
		both := launched(t, programs, pki, some, vary.Workers)
		if !vary.Varies() {
			live(t, both)
		}
		for _, s := range some {
			sides[s.Name] = both
		}
	}
	for _, some := range hands {
		for _, side := range sides[some[0].Name] {
			side.ready(t, some, vary.Workers)
		}
	}
	spent.since(began, "starts of shared processes")
	g := game{programs: programs, pki: pki, own: make(chan struct{}, aloneAtOnce), quiet: make(chan struct{}, 1)}
	// Hosts are checked from the start: who comes late finds hundreds of checks, never equally many at two moments.
	const early = "healthcheck"
	for _, s := range all {
		g.others(s.Dir() == early).Add(1)
	}
	byDir(t, all, early, func(t *testing.T, s *scenario.Scenario) {
		over := sync.OnceFunc(g.others(s.Dir() == early).Done)
		defer over()
		last := func() {
			over()
			g.others(s.Dir() == early).Wait()
		}
		if err := needs(s); err != nil {
			t.Skip(err)
		}
		switch {
		case s.Refused:
			refuses(t, programs, pki, s)
		case s.Alone != "":
			g.play(t, s, nil, last)
		default:
			g.play(t, s, sides[s.Name], last)
		}
	})
}

// needs says what a scenario needs that this machine lacks: a loopback of IPv6, which many containers have not.
func needs(s *scenario.Scenario) error {
	for _, u := range s.Upstreams {
		if ip := u.Attrs["ip"]; ip != "" {
			l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
			if err != nil {
				return fmt.Errorf("the upstream %s: %w", u.Name, err)
			}
			l.Close()
		}
	}
	return nil
}

// dealt deals scenarios out, so many to a hand at most, as cards are dealt: those of one directory, which are played at the
// same time, come to different hands.
func dealt(all []*scenario.Scenario, atMost int) [][]*scenario.Scenario {
	hands := make([][]*scenario.Scenario, (len(all)+atMost-1)/atMost)
	for i, s := range all {
		hands[i%len(hands)] = append(hands[i%len(hands)], s)
	}
	return hands
}

// live fails a test at its end if a process has not outlived it, or a statistic that scenarios have seen in it has not.
func live(t *testing.T, sides []*side) {
	t.Helper()
	t.Cleanup(func() {
		for _, s := range sides {
			select {
			case <-s.run.Done:
				t.Errorf("%s has ended", s)
			default:
				gone, err := s.vanished()
				if err != nil {
					t.Errorf("the statistics of %s: %v", s, err)
				}
				for _, u := range gone {
					t.Errorf("%s: %s has lost the statistic %s", u.scenario, s, u.name)
				}
			}
		}
	})
}

// A game is what all scenarios are played in.
type game struct {
	programs []program
	pki      *peer.PKI
	own      chan struct{}     // holds who has processes of its own
	late     atomic.Int32      // how many wait for the others to be over
	quiet    chan struct{}     // holds who plays after the others
	played   [2]sync.WaitGroup // the others: those of the directory that comes first, and those behind it
}

// others is what those wait for who play when nobody else does any more.
func (g *game) others(early bool) *sync.WaitGroup {
	if early {
		return &g.played[0]
	}
	return &g.played[1]
}

// play plays a scenario on processes that it shares, or on its own if there are none, and tells what differs.
// What differs is played again on processes that nobody else uses, at last when all others are over:
// an ejection that comes a moment later on a busy machine is no difference.
func (g *game) play(t *testing.T, s *scenario.Scenario, sides []*side, others func()) {
	t.Helper()
	var r *result
	for try := 0; ; try++ {
		switch {
		case try == again && try > 0:
			others()
			sides, r = g.alone(t, s, g.quiet)
		case try > 0 || sides == nil:
			sides, r = g.alone(t, s, g.own)
		default:
			r = play(sides, s)
		}
		if try == again || !r.differs(s) {
			break
		}
		t.Logf("differed, plays again: %s", r.first(s))
		if try+1 == again && g.late.Add(1) > lateAtMost {
			t.Logf("%d others have differed, too: this is no chance", lateAtMost)
			break
		}
	}
	report(t, s, sides, r)
}

// alone plays a scenario on processes of its own, when there is a place for it.
func (g *game) alone(t *testing.T, s *scenario.Scenario, places chan struct{}) ([]*side, *result) {
	t.Helper()
	places <- struct{}{}
	defer func() { <-places }()
	sides := newSides(t, g.programs, g.pki, []*scenario.Scenario{s}, s.Workers)
	return sides, play(sides, s)
}

// lateAtMost is how many scenarios may wait for the others: each of them holds a place of those that are played at the same time.
const lateAtMost = atOnce / 2

// again is how often a scenario that differs is played again, alone, and patience how long its sides may take to
// agree. With a mutant awake they are expected to differ.
var again, patience = func() (int, time.Duration) {
	if os.Getenv(mutantVariable) != "" {
		return 0, 3 * time.Second
	}
	return 2, 10 * time.Second
}()

// newSides starts programs with some scenarios.
func newSides(t *testing.T, programs []program, pki *peer.PKI, some []*scenario.Scenario, workers int) []*side {
	t.Helper()
	sides := launched(t, programs, pki, some, workers)
	for _, s := range sides {
		s.ready(t, some, workers)
	}
	return sides
}

// launched is newSides for who does not wait for them yet.
func launched(t *testing.T, programs []program, pki *peer.PKI, some []*scenario.Scenario, workers int) []*side {
	t.Helper()
	sides := make([]*side, len(programs))
	for i, p := range programs {
		sides[i] = newSide(t, p, pki, some)
		sides[i].launch(t, some, workers)
	}
	return sides
}

// differs reports whether there is something to tell of a result.
func (r *result) differs(s *scenario.Scenario) bool { return r.first(s) != "" }

// first is the first thing that is to be told of a result.
func (r *result) first(s *scenario.Scenario) string {
	if vary.Varies() {
		if len(r.notes[0]) == 0 && len(r.notes[1]) == 0 {
			return "" // both have refused it
		}
		if diffs := scenario.Unlike(s, r.notes[0], r.notes[1]); len(diffs) > 0 {
			return diffs[0]
		}
		return ""
	}
	if len(r.errs) > 0 {
		return r.errs[0].Error()
	}
	if diffs := scenario.Compare(s, r.notes[0], r.notes[1]); len(diffs) > 0 {
		return diffs[0]
	}
	return ""
}

// wanted reports whether -run asks for a scenario, so that one alone is quick.
func wanted(test, name string) bool {
	f := flag.Lookup("test.run")
	parts := strings.Split(f.Value.String(), "/")
	for i, name := range strings.Split(name, "/") {
		if i+1 < len(parts) && !matches(parts[i+1], name) {
			return false
		}
	}
	return true
}

func matches(pattern, name string) bool {
	ok, err := regexp.MatchString(pattern, name)
	return ok || err != nil
}

// byDir runs a subtest for each scenario, atOnce of them at the same time: TestScenarios/h1/two_hosts.
// Those of early come before all others.
func byDir(t *testing.T, all []*scenario.Scenario, early string, f func(t *testing.T, s *scenario.Scenario)) {
	dirs := map[string][]*scenario.Scenario{}
	for _, s := range all {
		dirs[s.Dir()] = append(dirs[s.Dir()], s)
	}
	order := slices.Sorted(maps.Keys(dirs))
	if i := slices.Index(order, early); i > 0 {
		order = slices.Insert(slices.Delete(order, i, i+1), 0, early)
	}
	for _, dir := range order {
		t.Run(dir, func(t *testing.T) {
			if dir != early {
				t.Parallel()
			}
			for _, s := range dirs[dir] {
				t.Run(path.Base(s.Name), func(t *testing.T) {
					t.Parallel()
					f(t, s)
				})
			}
		})
	}
}

// A result is what two proxies made of a scenario.
type result struct {
	notes [2]scenario.Notes
	errs  []error
	took  time.Duration
}

// play plays one scenario on both sides at the same time. Logs, statistics and
// upstreams lag behind what the client sees, so it waits until both agree; if they do
// not in the end, that is the result.
func play(sides []*side, s *scenario.Scenario) *result {
	began := time.Now()
	r := &result{}
	var clients [2]*peer.Client
	var errs [2]error
	var group sync.WaitGroup
	one := false // of the two has refused the configuration
	for i := range sides {
		if clients[i] = new(peer.Client); sides[i].refused[s.Name] != "" {
			one = true
			continue
		}
		group.Go(func() { clients[i], errs[i] = sides[i].play(s) })
	}
	group.Wait()
	played := time.Now()
	for i, err := range errs {
		if err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s: %w", sides[i], err))
		}
	}
	unlogged := func() bool {
		return s.Unlogged == "" && count(r.notes[0], "log ") == 0 && count(r.notes[0], "answer ") > 0
	}
	alike := func(stats bool) error {
		for i := range sides {
			r.notes[i] = sides[i].notes(s, clients[i].Notes, stats)
		}
		if diffs := scenario.CompareButStats(s, r.notes[0], r.notes[1]); !stats && len(diffs) > 0 && !one {
			return fmt.Errorf("%d differences", len(diffs))
		}
		if diffs := scenario.Compare(s, r.notes[0], r.notes[1]); stats && len(diffs) > 0 && !one {
			return fmt.Errorf("%d differences", len(diffs))
		}
		if unlogged() {
			return fmt.Errorf("no access log yet")
		}
		return nil
	}
	left := patience
	if len(scenario.Unlike(s, clients[0].Notes, clients[1].Notes)) > 0 {
		left = min(left, 300*time.Millisecond) // what the clients have seen stays as it is
	}
	// Statistics cost most, come last and are asked for seldom: a proxy looks through those of all scenarios.
	_, _ = mesh.Wait(left, func() error { return alike(false) })
	logged, asked := time.Now(), 0
	if len(s.Stats) > 0 {
		_, _ = mesh.Seldom(left-time.Since(played), func() error { asked++; return alike(true) })
	}
	if !one && unlogged() {
		r.errs = append(r.errs, errors.New("nothing was logged: want a line in the access log, or the line \"unlogged: REASON\""))
	}
	r.took = time.Since(began)
	spent.scenario(scenarioSpent{name: s.Name, client: played.Sub(began), logs: logged.Sub(played), stats: time.Since(logged), asked: asked})
	return r
}

func count(n scenario.Notes, prefix string) (found int) {
	for _, note := range n {
		if strings.HasPrefix(note.Key, prefix) {
			found++
		}
	}
	return found
}

// report fails a test for what should not differ.
func report(t *testing.T, s *scenario.Scenario, sides []*side, r *result) {
	t.Helper()
	if vary.Varies() && sides[0].refused[s.Name] != "" && sides[1].refused[s.Name] != "" {
		t.Skip("both refuse the configuration")
	}
	both := true
	for _, side := range sides {
		if why := side.refused[s.Name]; why != "" {
			both = false
			t.Errorf("%s refuses the configuration:\n%s", side, why)
		}
	}
	for _, err := range r.errs {
		if vary.Varies() {
			t.Log(err)
			continue
		}
		t.Error(err)
	}
	switch {
	case both && vary.Varies():
		for _, diff := range scenario.Unlike(s, r.notes[0], r.notes[1]) {
			t.Error(diff)
		}
	case both:
		for _, word := range untoldBy(s, r.notes[0]) {
			t.Errorf("Envoy's log has no %q, of which the scenario is the example", word)
		}
		for _, diff := range scenario.Compare(s, r.notes[0], r.notes[1]) {
			t.Error(diff)
		}
	}
	if *show {
		for i, side := range sides {
			for _, n := range r.notes[i] {
				t.Logf("%s: %s = %q", side, n.Key, n.Value)
			}
		}
		t.Logf("took %v", r.took.Round(time.Millisecond))
	}
}

// refuses expects that neither program takes the configuration.
func refuses(t *testing.T, programs []program, pki *peer.PKI, s *scenario.Scenario) {
	t.Helper()
	for _, p := range programs {
		side := newSide(t, p, pki, []*scenario.Scenario{s})
		why := side.validate(t, []*scenario.Scenario{s})
		if why == "" {
			t.Errorf("%s takes the configuration", p)
		}
		if *show {
			t.Logf("%s: %s", p, why)
		}
	}
}

// Two scenarios with one sentence are one scenario, or one of them does not say what
// it is about.
func TestSentences(t *testing.T) {
	seen := map[string]string{}
	for _, s := range load(t) {
		key := strings.ToLower(strings.Join(strings.Fields(s.Sentence), " "))
		if other := seen[key]; other != "" {
			t.Errorf("%s has the sentence of %s: %s", s.Name, other, s.Sentence)
		}
		seen[key] = s.Name
	}
}

// guardsAtMost is how many scenarios may guard one function: more of them are rows of a table, and show
// less than they count for.
const guardsAtMost = 10

// Every scenario names code that is there, and the function that it is about rather than one that all go through.
func TestGuards(t *testing.T) {
	by := map[scenario.Guard]int{}
	for _, s := range load(t) {
		if len(s.Guards) == 0 {
			t.Errorf("%s names no code that it guards: want a line \"guards: FILE func NAME\"", s.Name)
		}
		for _, g := range s.Guards {
			if by[g]++; by[g] == guardsAtMost+1 {
				t.Errorf("%s is the %dth to guard %s func %s, want at most %d: name what is its own", s.Name, by[g], g.File, g.Func, guardsAtMost)
			}
			text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(g.File)))
			if err != nil {
				t.Errorf("%s guards %s: %v", s.Name, g.File, err)
				continue
			}
			_, name, isMethod := strings.Cut(g.Func, ".")
			pattern := `(?m)^func ` + regexp.QuoteMeta(g.Func) + `[\[(]`
			if isMethod {
				recv, _, _ := strings.Cut(g.Func, ".")
				pattern = `(?m)^func \((?:\w+ )?\*?` + regexp.QuoteMeta(recv) + `(\[[\w, ]+\])?\) ` + regexp.QuoteMeta(name) + `\(`
			}
			if !regexp.MustCompile(pattern).Match(text) {
				t.Errorf("%s guards %s func %s, which is not there", s.Name, g.File, g.Func)
			}
		}
	}
}
