package scenario

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// A Note is one thing that was seen: "answer 1 status", "200".
type Note struct{ Key, Value string }

// Notes are what was seen of one proxy, in any order; keys are unique.
type Notes []Note

// Add notes something.
func (n *Notes) Add(key, value string) { *n = append(*n, Note{key, value}) }

// A Difference is one that is meant.
type Difference struct {
	Key    string // may hold * as in a file name
	Want   string // malla's value
	Exact  bool   // Want counts
	Reason string
}

// parseDiffers reads lines "KEY" and "KEY: malla's value" below "# the reason".
func parseDiffers(text string) ([]*Difference, error) {
	var out []*Difference
	reason, fresh := "", true
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		switch {
		case l == "":
		case strings.HasPrefix(l, "#"):
			if fresh {
				reason = ""
			}
			reason, fresh = strings.TrimSpace(reason+" "+strings.TrimSpace(l[1:])), false
		default:
			if reason == "" {
				return nil, fmt.Errorf("%q stands without a reason: want a line with # above it", l)
			}
			fresh = true
			key, want, exact := strings.Cut(l, ": ")
			out = append(out, &Difference{Key: strings.TrimSuffix(key, ":"), Want: want, Exact: exact, Reason: reason})
		}
	}
	return out, nil
}

// means reports whether the difference is about a key. path.Match keeps * from
// going over a slash, which here is a character like others.
func (d *Difference) means(key string) bool {
	plain := func(s string) string { return strings.ReplaceAll(s, "/", "|") }
	ok, err := path.Match(plain(d.Key), plain(key))
	return err == nil && ok
}

// nothing is what stands for a note that one side does not have.
const nothing = "(nothing)"

// Compare returns what should be alike and is not, and differences that are meant
// and gone.
func Compare(s *Scenario, envoy, malla Notes) []string {
	used := map[*Difference]bool{}
	out := unlike(s, envoy, malla, used)
	for _, d := range s.Differs {
		if !used[d] {
			out = append(out, fmt.Sprintf("%s: is meant to differ (%s), and does not: take it out of differs", d.Key, d.Reason))
		}
	}
	return append(out, absent(s, envoy, malla)...)
}

// NotThere is the value of a statistic that a proxy does not have.
const NotThere = "(not there)"

// absent finds statistics of which neither proxy has ever heard: a slip of the pen would compare as well.
func absent(s *Scenario, envoy, malla Notes) (out []string) {
	for _, name := range s.Stats {
		none := envoy.get("stat "+name) == NotThere && malla.get("stat "+name) == NotThere
		switch meant := slices.Contains(s.None, name); {
		case none && !meant:
			out = append(out, fmt.Sprintf("stat %s: neither of the two has it; if that is what it is about, say %q", name, name+" none"))
		case meant && envoy.get("stat "+name) != nothing && !none:
			out = append(out, fmt.Sprintf("stat %s: is to be none, and is there", name))
		}
	}
	return out
}

// Unlike returns what should be alike and is not, in a part of the notes.
func Unlike(s *Scenario, envoy, malla Notes) []string {
	return unlike(s, envoy, malla, map[*Difference]bool{})
}

// unlike notes which differences that are meant there are.
func unlike(s *Scenario, envoy, malla Notes, used map[*Difference]bool) (out []string) {
	for _, key := range keys(envoy, malla) {
		theirs, ours := envoy.get(key), malla.get(key)
		if theirs == ours {
			continue
		}
		i := slices.IndexFunc(s.Differs, func(d *Difference) bool { return d.means(key) && (!d.Exact || d.Want == ours) })
		if i < 0 {
			out = append(out, fmt.Sprintf("%s:\n malla %s\n Envoy %s", key, ours, theirs))
			continue
		}
		used[s.Differs[i]] = true
	}
	return out
}

// CompareButStats is Compare while statistics have not been asked for.
func CompareButStats(s *Scenario, envoy, malla Notes) []string {
	rest := *s
	rest.Differs = slices.DeleteFunc(slices.Clone(s.Differs), func(d *Difference) bool { return strings.HasPrefix(d.Key, "stat ") })
	return Compare(&rest, envoy, malla)
}

// keys lists the keys of both, in the order in which they were noted.
func keys(all ...Notes) []string {
	var out []string
	seen := map[string]bool{}
	for _, n := range slices.Concat(all...) {
		if !seen[n.Key] {
			seen[n.Key] = true
			out = append(out, n.Key)
		}
	}
	return out
}

// get returns a note as a text on one line.
func (n Notes) get(key string) string {
	for _, note := range n {
		if note.Key == key {
			return strings.ReplaceAll(strings.ReplaceAll(note.Value, "\r", `\r`), "\n", `\n`)
		}
	}
	return nothing
}
