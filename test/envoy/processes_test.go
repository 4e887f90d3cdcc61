//go:build linux

package envoy_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/envoy/scenario"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// A program is one of the two proxies.
type program struct {
	path    string
	envoy   bool
	without map[string]string // fields that scenarios lack, by the scenarios' names
}

func (p program) String() string {
	if p.envoy {
		return "Envoy"
	}
	return "malla"
}

// A side is a process of a program that runs scenarios: a bootstrap of all of them.
type side struct {
	program
	dir     string
	pki     *peer.PKI
	network string // 127.N: addresses that nobody else uses
	hold    net.Listener
	run     *process.Process
	views   map[string]*scenario.View
	peers   map[string][]*peer.Upstream
	refused map[string]string // scenarios whose configuration it did not take, and why

	first   sync.Once
	atFirst string // all statistics, when they were first asked for

	mu     sync.Mutex // guards what follows
	unused map[unused]bool
}

// unused is a statistic that was only asked for at first, and taken to be there ever since.
type unused struct{ scenario, name string }

func newSide(t *testing.T, p program, pki *peer.PKI, all []*scenario.Scenario) *side {
	t.Helper()
	s := &side{program: p, dir: t.TempDir(), pki: pki, views: map[string]*scenario.View{}, peers: map[string][]*peer.Upstream{}, refused: map[string]string{}, unused: map[unused]bool{}}
	s.reserve(t)
	for i, sc := range all {
		if err := s.prepare(t, i, sc); err != nil {
			t.Fatalf("%s: %v", sc.Name, err)
		}
	}
	return s
}

// reserve takes a loopback network for itself, so that suites that run at the same
// time on one machine do not meet.
func (s *side) reserve(t *testing.T) {
	t.Helper()
	for i := range 200 {
		network := fmt.Sprintf("127.%d", 20+(os.Getpid()*7+i)%200)
		if l, err := net.Listen("tcp", network+".0.1:19000"); err == nil {
			s.network, s.hold = network, l
			t.Cleanup(func() { l.Close() })
			return
		}
	}
	t.Fatal("no loopback network is free")
}

func (s *side) admin() string { return s.network + ".0.1:9901" }

// prepare makes a scenario's workspace and starts its upstreams.
func (s *side) prepare(t *testing.T, i int, sc *scenario.Scenario) error {
	v := &scenario.View{Scenario: sc, IP: fmt.Sprintf("%s.%d.%d", s.network, 1+i/250, 1+i%250), Upstream: map[string]string{}, PKI: s.pki.Dir, Lines: filepath.Join(s.dir, "access.log"), Without: s.without[sc.Name]}
	v.Workspace = filepath.Join(s.dir, strings.ReplaceAll(sc.Name, "/", "-"))
	if err := os.MkdirAll(v.Workspace, 0o755); err != nil {
		return err
	}
	scripts := sc.Upstreams
	if !hasBackend(scripts) {
		scripts = append([]*scenario.Upstream{{Name: "backend"}}, scripts...)
	}
	for _, script := range scripts {
		u, err := peer.Serve(v.IP, v.Workspace, script, s.pki)
		if err != nil {
			return err
		}
		t.Cleanup(u.Close)
		v.Upstream[script.Name] = u.Addr()
		s.peers[sc.Name] = append(s.peers[sc.Name], u)
	}
	files, err := v.Files()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := peer.WriteFile(filepath.Join(v.Workspace, name), text); err != nil {
			return err
		}
	}
	s.views[sc.Name] = v
	return nil
}

func hasBackend(all []*scenario.Upstream) bool {
	for _, u := range all {
		if u.Name == "backend" {
			return true
		}
	}
	return false
}

// bootstrap writes one bootstrap of some scenarios.
func (s *side) bootstrap(t *testing.T, file string, some []*scenario.Scenario) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.admin())
	resources := map[string]any{}
	all := map[string]any{
		"node":             map[string]any{"id": "scenarios", "cluster": "scenarios"},
		"admin":            map[string]any{"address": map[string]any{"socket_address": map[string]any{"address": host, "port_value": json.Number(port)}}},
		"static_resources": resources,
		"bootstrap_extensions": []any{map[string]any{"name": "envoy.bootstrap.internal_listener", "typed_config": map[string]any{
			"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}}},
	}
	for _, sc := range some {
		tree, err := s.views[sc.Name].Config()
		if err != nil {
			t.Fatalf("%s: %v", sc.Name, err)
		}
		for k, v := range tree {
			if k == "static_resources" {
				for kind, list := range v.(map[string]any) {
					have, _ := resources[kind].([]any)
					more, _ := list.([]any)
					resources[kind] = append(have, more...)
				}
				continue
			}
			if sc.Alone == "" && !sc.Refused {
				t.Fatalf("%s sets %s of the bootstrap, which all share: say alone: and why", sc.Name, k)
			}
			if k == "admin" { // the address is the suite's
				for field, value := range v.(map[string]any) {
					all["admin"].(map[string]any)[field] = value
				}
				continue
			}
			all[k] = v
		}
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, file)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// args are a command line; both programs know the same flags.
func (s *side) args(config string, more ...string) []string {
	args := append([]string{"-c", config, "--log-level", "warning", "--file-flush-interval-msec", "20", "--drain-time-s", "1"}, more...)
	if s.envoy {
		args = append(args, "--use-dynamic-base-id")
	}
	return args
}

// launch starts the process.
func (s *side) launch(t *testing.T, some []*scenario.Scenario, workers int) {
	t.Helper()
	s.run = start(t, s.path, s.args(s.bootstrap(t, "bootstrap.json", some), "--concurrency", fmt.Sprint(max(workers, 1)))...)
}

// ready waits until the process runs with every scenario that it takes. Scenarios that it
// does not take are found by halves, so that one mistake costs one scenario.
func (s *side) ready(t *testing.T, some []*scenario.Scenario, workers int) {
	t.Helper()
	if s.lives(t) {
		return
	}
	s.launch(t, s.sift(t, some), workers)
	if !s.lives(t) {
		t.Fatalf("%s has ended:\n%s", s, s.run.Log())
	}
}

// lives waits until the process is ready, or has ended.
func (s *side) lives(t *testing.T) bool {
	t.Helper()
	ended := false
	mesh.Until(t, 30*time.Second, s.String()+" being ready", func() error {
		select {
		case <-s.run.Done:
			ended = true
			return nil
		default:
		}
		text, err := peer.Ask(s.admin(), "/ready")
		if err == nil && strings.TrimSpace(text) != "LIVE" {
			err = fmt.Errorf("it says %s", text)
		}
		return err
	})
	return !ended
}

// sift returns the scenarios that are taken, and notes the others.
func (s *side) sift(t *testing.T, some []*scenario.Scenario) []*scenario.Scenario {
	t.Helper()
	why := s.validate(t, some)
	if why == "" {
		return some
	}
	if len(some) == 1 {
		s.refused[some[0].Name] = why
		return nil
	}
	half := len(some) / 2
	return append(s.sift(t, some[:half:half]), s.sift(t, some[half:])...)
}

// validate returns what the program has against the configuration of some scenarios.
func (s *side) validate(t *testing.T, some []*scenario.Scenario) string {
	t.Helper()
	cmd := exec.Command(s.path, s.args(s.bootstrap(t, "validate.json", some), "--mode", "validate")...)
	out, err := cmd.CombinedOutput()
	spent.process(s.path, "to validate", cmd.ProcessState)
	if err == nil {
		return ""
	}
	if len(some) > 1 {
		return err.Error()
	}
	return fmt.Sprintf("%v: %s", err, tail(s.views[some[0].Name].Normalize(string(out)), 1500))
}

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// play plays a scenario, and returns the client with its notes.
func (s *side) play(sc *scenario.Scenario) (*peer.Client, error) {
	c := &peer.Client{View: s.views[sc.Name], PKI: s.pki, Admin: s.admin()}
	err := c.Play()
	return c, err
}

// notes are the client's, with what upstreams, access log and, if asked for, statistics say by now.
func (s *side) notes(sc *scenario.Scenario, client scenario.Notes, stats bool) scenario.Notes {
	v := s.views[sc.Name]
	out := append(scenario.Notes(nil), client...)
	for _, u := range s.peers[sc.Name] {
		out = append(out, u.Notes(v)...)
	}
	for i, l := range v.Logged() {
		out.Add(fmt.Sprintf("log %d", i+1), l)
	}
	if stats {
		s.stats(sc, &out)
	}
	return out
}

// stats notes the statistics that the scenario names; {{listener}} in a name stands
// for the first listener's address.
func (s *side) stats(sc *scenario.Scenario, out *scenario.Notes) {
	v := s.views[sc.Name]
	address, _ := v.Listener("")
	address = strings.ReplaceAll(address, ":", "_")
	values, idle := map[string]string{}, map[string]string{} // idle has whole names
	keep := func(lines iter.Seq[string], used bool) {
		for l := range lines {
			whole, value, _ := strings.Cut(strings.TrimSpace(l), ": ")
			name := strings.ReplaceAll(strings.ReplaceAll(whole, v.Prefix(), ""), address, "(listener)")
			if values[name] = value; used {
				delete(idle, name)
			} else {
				idle[name] = whole
			}
		}
	}
	key := func(name string) string { return strings.ReplaceAll(name, "{{listener}}", "(listener)") }
	lacking := func(name string) bool { _, there := values[key(name)]; return !there }
	filters := []string{v.Prefix(), address}
	filters = slices.DeleteFunc(filters, func(filter string) bool {
		return !slices.ContainsFunc(sc.Stats, func(name string) bool { return strings.Contains(name, "{{listener}}") == (filter == address) })
	})
	if sc.Alone != "" {
		filters = []string{""} // also for statistics of the process
	}
	// What has been used is found at a quarter of the price of all. What has not, and was there with nothing to tell before, still
	// is: unless the scenario takes something away. Whether that was true is looked at in the end; see vanished.
	for _, used := range []string{"usedonly&", ""} {
		if used == "" && !slices.ContainsFunc(sc.Stats, lacking) {
			break
		}
		for _, filter := range filters {
			if used != "" && filter != "" && !sc.Changes() {
				keep(s.idle(filter), false)
			}
			text, err := peer.Ask(s.admin(), "/stats?"+used+"filter="+regexp.QuoteMeta(filter))
			if err != nil {
				out.Add("stats", err.Error())
				return
			}
			keep(strings.Lines(text), true)
		}
	}
	for _, name := range sc.Stats { // what is left is of the process
		if !lacking(name) {
			continue
		}
		text, err := peer.Ask(s.admin(), "/stats?filter="+url.QueryEscape("^"+regexp.QuoteMeta(name)+"$"))
		if err != nil {
			out.Add("stats", err.Error())
			return
		}
		keep(strings.Lines(text), true)
	}
	for _, name := range sc.Stats {
		value := values[key(name)]
		if lacking(name) {
			value = scenario.NotThere
		}
		if whole := idle[key(name)]; whole != "" {
			s.mu.Lock()
			s.unused[unused{sc.Name, whole}] = true
			s.mu.Unlock()
		}
		out.Add("stat "+name, value)
	}
}

// vanished returns the statistics that were taken to be there and are not.
func (s *side) vanished() (gone []unused, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.unused) == 0 {
		return nil, nil
	}
	text, err := peer.Ask(s.admin(), "/stats")
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for l := range strings.Lines(text) {
		name, _, _ := strings.Cut(l, ": ")
		there[name] = true
	}
	for u := range s.unused {
		if !there[u.name] {
			gone = append(gone, u)
		}
	}
	return gone, nil
}

// idle returns the lines of statistics that hold a text and had nothing to tell when the process was first asked.
func (s *side) idle(filter string) iter.Seq[string] {
	s.first.Do(func() { s.atFirst, _ = peer.Ask(s.admin(), "/stats") })
	return func(yield func(string) bool) {
		for text := s.atFirst; ; {
			at := strings.Index(text, filter)
			if at < 0 {
				return
			}
			from := strings.LastIndexByte(text[:at], '\n') + 1
			line, rest, _ := strings.Cut(text[from:], "\n")
			if text = rest; strings.HasSuffix(line, ": 0") || strings.HasSuffix(line, ": No recorded values") {
				if !yield(line) {
					return
				}
			}
		}
	}
}
