package app

import (
	"log/slog"
	"strings"
	"time"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/source/kube"
	"github.com/mallamesh/malla/control/status"
)

// A problem is something about the configuration that somebody should know.
type problem struct {
	text    string        // a line of the log
	waits   time.Duration // what is still on its way may mend it within that time: people apply rules before the services that they are about
	about   kube.ID       // the object that shows it
	uid     string
	finding status.Finding
}

// problemOf makes a problem of what compilation found.
func problemOf(p compile.Problem, snap *config.Snapshot) problem {
	x := problem{text: p.Error.Error(), waits: p.Waits, about: kube.ID{Kind: p.Ref.Kind, Namespace: p.Ref.Namespace, Name: p.Ref.Name},
		finding: status.Finding{Reason: p.Reason.Name, Code: p.Reason.Code, URL: p.Reason.Documentation(), Error: !p.Notice, Text: onItself(p.Error)}}
	if o, ok := snap.Get(p.Ref.Kind, p.Ref.Namespace, p.Ref.Name); ok {
		x.uid = o.UID
	}
	return x
}

// problemOfMesh makes a problem of a mistake in the mesh's settings.
func problemOfMesh(e *field.Error, o *config.Object) problem {
	return problem{text: e.Error(), about: kube.ID{Kind: o.Kind.Key(), Namespace: o.Namespace, Name: o.Name}, uid: o.UID,
		finding: status.Finding{Reason: compile.Invalid.Name, Code: compile.Invalid.Code, URL: compile.Invalid.Documentation(), Error: true, Text: onItself(e)}}
}

// unreadable lists the objects whose newest version is not in force. The source has
// logged them.
func unreadable(source *kube.Source) []problem {
	var out []problem
	for id, st := range source.Unreadable() {
		out = append(out, problem{about: id, uid: st.UID, finding: status.Finding{Reason: compile.Invalid.Name, Code: compile.Invalid.Code,
			URL: compile.Invalid.Documentation(), Error: true, Text: "cannot be read, and what was known before stays in force: " + oneLine(st.Unreadable)}})
	}
	return out
}

// onItself is an error as it stands on the object that it is about: one line that
// does not name the object.
func onItself(e *field.Error) string {
	c := *e
	c.In, c.Pos = "", ""
	return oneLine(c.Error())
}

// oneLine is a text without its line ends: the lines of a status are findings.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// problems logs each problem when it appears, and again if it comes back after it
// was mended.
type problems struct {
	log   *slog.Logger
	list  []problem            // of the newest mesh
	since map[string]time.Time // when each came up
	told  map[string]bool
}

// set replaces the problems and logs those that are due. It returns how long the
// next one must be waited for, 0 if none is to come.
func (p *problems) set(list []problem, now time.Time) (again time.Duration) {
	p.list = list
	since, told := make(map[string]time.Time, len(list)), make(map[string]bool, len(list))
	for _, x := range list {
		if _, twice := since[x.text]; twice || x.text == "" {
			continue
		}
		came, old := p.since[x.text]
		if !old {
			came = now
		}
		since[x.text] = came
		switch wait := came.Add(x.waits).Sub(now); {
		case p.told[x.text]:
			told[x.text] = true
		case wait > 0:
			if again == 0 || wait < again {
				again = wait
			}
		default:
			p.log.Warn("configuration", "problem", x.text)
			told[x.text] = true
		}
	}
	p.since, p.told = since, told
	return again
}

// wanted is what the objects should show of the problems. What is not told yet is
// shown by those objects only that show it already.
func (p *problems) wanted(generation func(kube.ID) int64) map[kube.ID]status.Wanted {
	out := map[kube.ID]status.Wanted{}
	for _, x := range p.list {
		if x.about.Kind == "" {
			continue
		}
		f := x.finding
		f.Pending = x.text != "" && !p.told[x.text]
		w := out[x.about]
		w.UID, w.Generation = x.uid, generation(x.about)
		w.Findings = append(w.Findings, f)
		out[x.about] = w
	}
	return out
}
