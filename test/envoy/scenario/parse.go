package scenario

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// A Scenario is one file.
type Scenario struct {
	Name     string // h1/two_hosts: the file without its extension
	Sentence string
	Guards   []Guard
	Refused  bool   // both proxies are to refuse the configuration
	Alone    string // why it has processes of its own, "" if it shares them
	Workers  int    // of its own processes
	Unlogged string // why no access log is written, "" if one is

	config    []Section
	ownLog    bool     // {{log}} is named
	speaks    []string // what a variation has upstreams speak
	Upstreams []*Upstream
	Steps     []Step
	Stats     []string
	None      []string // of Stats: those that neither proxy has
	Differs   []*Difference
}

// A Guard names the code that makes the sentence true of malla.
type Guard struct {
	File string
	Func string // Name, or Type.Name
}

// A Section is a part of the configuration.
type Section struct {
	Kind string // routes, hcm, cluster, ...
	Name string
	Text string
}

// A Step is something that the client does.
type Step struct {
	Do    string            // connect, request, send, answer, close, pause, write, admin, ...
	Words []string          // what follows, without k=v
	Attrs map[string]string // k=v
	Text  string
}

// An Upstream is a server behind the proxies, which answers from a list.
type Upstream struct {
	Name    string
	Attrs   map[string]string // of the first section: proto, tls, ...
	Answers []Step
}

// configSections are the names of sections that make configuration.
var configSections = []string{
	"envoy.yaml", "listener", "listeners", "chain", "network_filters", "tcp_proxy", "hcm", "filters", "route_config", "virtual_hosts", "routes",
	"cluster", "clusters", "secrets", "file", "admin_config", "bootstrap",
}

// stepSections are the names of sections that the client plays, in order.
var stepSections = []string{"connect", "request", "send", "answer", "read", "close", "pause", "write", "admin", "tap"}

// Load reads all scenarios below a directory, in order of their names.
func Load(root fs.FS) ([]*Scenario, error) {
	var out []*Scenario
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Ext(p) != ".txtar" {
			return err
		}
		text, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		s, err := Parse(strings.TrimSuffix(p, ".txtar"), text)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

// swallowed finds a title that does not begin its line: what follows would be text of the section before.
var swallowed = regexp.MustCompile(`(?m)\S-- (?:` + strings.Join(slices.Concat(configSections, stepSections, []string{"upstream", "stats", "differs"}), "|") + `)\b.* --$`)

// Parse reads one scenario.
func Parse(name string, text []byte) (*Scenario, error) {
	a := txtar.Parse(text)
	s := &Scenario{Name: name, ownLog: bytes.Contains(text, []byte("{{log}}"))}
	if err := s.head(string(a.Comment)); err != nil {
		return nil, err
	}
	for _, f := range a.Files {
		if title := swallowed.Find(f.Data); title != nil {
			return nil, fmt.Errorf("section %q: found %q in its text, want a section's title on a line of its own", f.Name, title)
		}
		if err := s.section(f.Name, string(f.Data)); err != nil {
			return nil, fmt.Errorf("section %q: %w", f.Name, err)
		}
	}
	if len(s.Steps) == 0 && !s.Refused {
		s.Steps = []Step{{Do: "request", Text: "GET / HTTP/1.1\nHost: test.example\n\n"}}
	}
	return s, s.ended()
}

// ended refuses a request of HTTP/1.1 whose head never ends: nothing would come back, of both proxies alike.
// What is to stay open says so.
func (s *Scenario) ended() error {
	other := map[string]bool{} // connections that may speak HTTP/2
	for i, step := range s.Steps {
		conn := step.Attrs["conn"]
		switch {
		case step.Do == "connect":
			other[conn] = step.Has("h2") || strings.Contains(step.Attrs["alpn"], "h2")
		case step.Do == "request" && !other[conn] && !step.Has("open"):
			text, err := step.Bytes()
			if err == nil && !strings.Contains(text, "\r\n\r\n") {
				err = fmt.Errorf("its head has no end, want an empty line, or the word open in the title")
			}
			if err == nil && strayEnd(text) {
				err = fmt.Errorf("found an empty line behind its end: to some it begins another request; take it away, or say open in the title")
			}
			if err != nil {
				return fmt.Errorf("step %d, request: %w", i+1, err)
			}
		}
	}
	return nil
}

// strayEnd reports whether a request is followed by nothing but ends of lines.
func strayEnd(text string) bool {
	in := bufio.NewReader(strings.NewReader(text))
	r, err := http.ReadRequest(in)
	if err != nil {
		return false // what is no request to net/http is for the proxies to judge
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return false
	}
	rest, _ := io.ReadAll(in)
	return len(rest) > 0 && len(bytes.Trim(rest, "\r\n")) == 0
}

// head reads the sentence and the lines after it.
func (s *Scenario) head(text string) error {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	s.Sentence = strings.TrimSpace(lines[0])
	if !strings.HasSuffix(s.Sentence, ".") {
		return fmt.Errorf("the first line is %q, want a sentence", s.Sentence)
	}
	for _, l := range lines[1:] {
		key, value, _ := strings.Cut(strings.TrimSpace(l), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "guards":
			file, fn, ok := strings.Cut(value, " func ")
			if !ok {
				return fmt.Errorf("guards: found %q, want FILE func NAME", value)
			}
			s.Guards = append(s.Guards, Guard{strings.TrimSpace(file), strings.TrimSpace(fn)})
		case "refused":
			if value != "both" {
				return fmt.Errorf("refused: found %q, want both; what only one refuses stands in differs", value)
			}
			s.Refused = true
		case "alone":
			if s.Alone = value; value == "" {
				return fmt.Errorf("alone: want the reason")
			}
		case "unlogged":
			if s.Unlogged = value; value == "" {
				return fmt.Errorf("unlogged: want the reason")
			}
		case "workers":
			if _, err := fmt.Sscan(value, &s.Workers); err != nil {
				return fmt.Errorf("workers: found %q, want a number", value)
			}
		default:
			return fmt.Errorf("found %q, want a line guards, refused, alone, unlogged or workers", l)
		}
	}
	if s.Workers > 0 && s.Alone == "" {
		return fmt.Errorf("workers needs alone: the shared processes have one")
	}
	return nil
}

func (s *Scenario) section(title, text string) error {
	words := titleWords(title)
	if len(words) == 0 {
		return fmt.Errorf("has no name")
	}
	kind, step := words[0], Step{Do: words[0], Attrs: map[string]string{}, Text: text}
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok && !strings.HasPrefix(w, "/") {
			step.Attrs[k] = v
		} else {
			step.Words = append(step.Words, w)
		}
	}
	switch {
	case slices.Contains(configSections, kind):
		s.config = append(s.config, Section{Kind: kind, Name: strings.Join(step.Words, " "), Text: text})
	case slices.Contains(stepSections, kind):
		s.Steps = append(s.Steps, step)
	case kind == "upstream":
		return s.upstream(step)
	case kind == "stats":
		for l := range strings.Lines(text) {
			if l = strings.TrimSpace(l); l == "" {
				continue
			}
			name, none := strings.CutSuffix(l, " none")
			if s.Stats = append(s.Stats, name); none {
				s.None = append(s.None, name)
			}
		}
	case kind == "differs":
		var err error
		s.Differs, err = parseDiffers(text)
		return err
	default:
		return fmt.Errorf("want one of %s, %s, upstream, stats, differs", strings.Join(configSections, ", "), strings.Join(stepSections, ", "))
	}
	return nil
}

// titleWords splits a title, and leaves {{...}} whole.
func titleWords(title string) []string {
	depth := 0
	return strings.FieldsFunc(title, func(r rune) bool {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		}
		return r == ' ' && depth == 0
	})
}

// upstream adds an answer to an upstream; the first word is its name.
func (s *Scenario) upstream(step Step) error {
	if len(step.Words) == 0 {
		return fmt.Errorf("want the upstream's name")
	}
	name := step.Words[0]
	step.Words = step.Words[1:]
	for _, u := range s.Upstreams {
		if u.Name == name {
			u.Answers = append(u.Answers, step)
			return nil
		}
	}
	s.Upstreams = append(s.Upstreams, &Upstream{Name: name, Attrs: step.Attrs, Answers: []Step{step}})
	return nil
}

// Bytes is the step's text as it goes over the wire: the word exact leaves out the last CRLF.
func (s Step) Bytes() (string, error) {
	text, err := Bytes(s.Text)
	if s.Has("exact") {
		text = strings.TrimSuffix(text, "\r\n")
	}
	return text, err
}

// Has reports whether a word stands in the section's title.
func (s Step) Has(word string) bool { return slices.Contains(s.Words, word) }

// Dir is the scenario's subsystem.
func (s *Scenario) Dir() string { return path.Dir(s.Name) }

// Changes reports whether the configuration is another one while the scenario is played.
func (s *Scenario) Changes() bool {
	return slices.ContainsFunc(s.Steps, func(step Step) bool { return step.Do == "write" }) ||
		slices.ContainsFunc(s.Upstreams, func(u *Upstream) bool { return u.Attrs["proto"] == "xds" })
}
