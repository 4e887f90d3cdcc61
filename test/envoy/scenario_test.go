//go:build linux

package envoy_test

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/envoy/scenario"
	"github.com/mallamesh/malla/test/script/mesh"
)

var show = flag.Bool("show", false, "print what was seen of Envoy and of malla for every scenario that is run")

// atOnce is how many scenarios are played at the same time: most of their time is
// waiting.
const atOnce = 16

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
	programs := []program{{findEnvoy(t), true}, {findProxy(t), false}}
	all := slices.DeleteFunc(load(t), func(s *scenario.Scenario) bool { return !wanted("TestScenarios", s.Name) })
	pki, err := peer.NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shared := slices.DeleteFunc(slices.Clone(all), func(s *scenario.Scenario) bool { return s.Alone != "" || s.Refused })
	sides := make([]*side, len(programs))
	for i, p := range programs {
		sides[i] = newSide(t, p, pki, shared)
		sides[i].start(t, shared, 1)
	}
	results := playAll(sides, shared)
	byDir(t, all, func(t *testing.T, s *scenario.Scenario) {
		switch {
		case s.Refused:
			refuses(t, programs, pki, s)
		case s.Alone != "":
			alone := newSides(t, programs, pki, s)
			report(t, s, alone, play(alone, s))
		default:
			at, r := sides, results[s.Name]
			// What differs is played again by itself, on processes that nobody else uses: an
			// ejection that comes a moment later on a busy machine is no difference.
			for i := 0; i < again && r.differs(s); i++ {
				t.Logf("differed among the others; plays alone")
				at = newSides(t, programs, pki, s)
				r = play(at, s)
			}
			report(t, s, at, r)
		}
	})
	for _, s := range sides {
		select {
		case <-s.run.done:
			t.Errorf("%s has ended", s)
		default:
		}
	}
}

// again is how often a scenario that differs is played again, alone, and patience how long its sides may take to
// agree. With a mutant awake they are expected to differ.
var again, patience = func() (int, time.Duration) {
	if os.Getenv(mutantVariable) != "" {
		return 0, 3 * time.Second
	}
	return 2, 15 * time.Second
}()

// newSides starts both programs for one scenario.
func newSides(t *testing.T, programs []program, pki *peer.PKI, s *scenario.Scenario) []*side {
	t.Helper()
	alone := make([]*side, len(programs))
	for i, p := range programs {
		alone[i] = newSide(t, p, pki, []*scenario.Scenario{s})
		alone[i].start(t, []*scenario.Scenario{s}, max(s.Workers, 1))
	}
	return alone
}

// differs reports whether there is something to tell of a result.
func (r *result) differs(s *scenario.Scenario) bool {
	return len(r.errs) > 0 || len(scenario.Compare(s, r.notes[0], r.notes[1])) > 0
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

// byDir runs a subtest for each scenario: TestScenarios/h1/two_hosts.
func byDir(t *testing.T, all []*scenario.Scenario, f func(t *testing.T, s *scenario.Scenario)) {
	for len(all) > 0 {
		dir := all[0].Dir()
		n := slices.IndexFunc(all, func(s *scenario.Scenario) bool { return s.Dir() != dir })
		if n < 0 {
			n = len(all)
		}
		group := all[:n]
		all = all[n:]
		t.Run(dir, func(t *testing.T) {
			for _, s := range group {
				t.Run(path.Base(s.Name), func(t *testing.T) { f(t, s) })
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

// playAll plays every scenario. Where only one of the two has taken the configuration,
// it plays alone: -show shows what it does.
func playAll(sides []*side, all []*scenario.Scenario) map[string]*result {
	out := map[string]*result{}
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, s := range all {
		slots <- struct{}{}
		group.Go(func() {
			r := play(sides, s)
			<-slots
			mu.Lock()
			out[s.Name] = r
			mu.Unlock()
		})
	}
	group.Wait()
	return out
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
	for i, err := range errs {
		if err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s: %w", sides[i], err))
		}
	}
	_, _ = mesh.Wait(patience, func() error {
		for i := range sides {
			r.notes[i] = sides[i].notes(s, clients[i].Notes)
		}
		if diffs := scenario.Compare(s, r.notes[0], r.notes[1]); len(diffs) > 0 && !one {
			return fmt.Errorf("%d differences", len(diffs))
		}
		if count(r.notes[0], "log ") == 0 && count(r.notes[0], "answer ") > 0 {
			return fmt.Errorf("no access log yet")
		}
		return nil
	})
	r.took = time.Since(began)
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
	both := true
	for _, side := range sides {
		if why := side.refused[s.Name]; why != "" {
			both = false
			t.Errorf("%s refuses the configuration:\n%s", side, why)
		}
	}
	for _, err := range r.errs {
		t.Error(err)
	}
	if both {
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

// Every scenario names code that is there.
func TestGuards(t *testing.T) {
	for _, s := range load(t) {
		if len(s.Guards) == 0 {
			t.Errorf("%s names no code that it guards: want a line \"guards: FILE func NAME\"", s.Name)
		}
		for _, g := range s.Guards {
			text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(g.File)))
			if err != nil {
				t.Errorf("%s guards %s: %v", s.Name, g.File, err)
				continue
			}
			_, name, isMethod := strings.Cut(g.Func, ".")
			pattern := `(?m)^func ` + regexp.QuoteMeta(g.Func) + `[\[(]`
			if isMethod {
				recv, _, _ := strings.Cut(g.Func, ".")
				pattern = `(?m)^func \((?:\w+ )?\*?` + regexp.QuoteMeta(recv) + `(\[\w+\])?\) ` + regexp.QuoteMeta(name) + `\(`
			}
			if !regexp.MustCompile(pattern).Match(text) {
				t.Errorf("%s guards %s func %s, which is not there", s.Name, g.File, g.Func)
			}
		}
	}
}
