package app

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// A tracer finds out which patches are at fault for what proxies refuse. A large mesh takes seconds for that, and any proxy can have it
// done by what it says. So it is done aside, while configuration goes on, in a share of one processor and within a time; what was found is
// known for as long as proxies refuse it. Nobody is blamed before there is an answer.
type tracer struct {
	told func() // that there is a new answer; nil: questions are answered at once
	seed maphash.Seed
	work chan struct{} // holds one if there may be something to do

	mu      sync.Mutex // guards what follows
	turn    uint64
	reasons int // that were asked about in this turn
	answers map[question]*answer
	queue   []*answer // oldest first
	stamps  map[*model.Patches]uint64
}

// The bounds of a tracer.
const (
	// maxTraced is for how many reasons at a time it is found out which patch is at fault. The rest is blamed on all patches.
	maxTraced = 32
	// maxTracing is how long that may take for one resource. Then all patches are blamed, too.
	maxTracing = 5 * time.Second
	// tracerRests is how many times as long as it has worked a tracer rests.
	tracerRests = 3
)

// A question is about the reasons for which a resource is refused. Replicas have the same one; with other patches it is another.
type question struct {
	typeURL, name, reasons string
	patches                uint64
}

type answer struct {
	question
	turn  uint64 // in which it was last asked for
	view  *model.View
	paths []string
	done  bool
	found [][]translate.PatchAt // by path; nil: it took too long
}

func newTracer(told func()) *tracer {
	return &tracer{told: told, seed: maphash.MakeSeed(), work: make(chan struct{}, 1), answers: map[question]*answer{}}
}

// begin begins a turn, in which all is asked anew.
func (t *tracer) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++
	t.reasons, t.stamps = 0, map[*model.Patches]uint64{}
}

// end forgets what nobody has asked for in this turn, and begins to work.
func (t *tracer) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	idle := func(a *answer) bool { return a.turn != t.turn || a.done || len(a.paths) == 0 }
	t.queue, t.stamps = slices.DeleteFunc(t.queue, idle), nil
	maps.DeleteFunc(t.answers, func(_ question, a *answer) bool { return !a.done && idle(a) || a.turn != t.turn })
	if len(t.queue) > 0 {
		t.wanted()
	}
}

func (t *tracer) wanted() {
	select {
	case t.work <- struct{}{}:
	default:
	}
}

// complaints are those about the patches that are at fault for a resource, none while that is not known.
func (t *tracer) complaints(v *model.View, typeURL, name string, reasons []reason, patchers []model.Ref) (out []complaint) {
	found, known := t.ask(v, typeURL, name, reasons)
	if !known {
		return nil
	}
	for i, why := range reasons {
		var refs []model.Ref
		var of map[model.Ref][]int
		if i < len(found) {
			refs, of = translate.Objects(found[i])
		}
		for _, ref := range refs {
			at := "spec.configPatches"
			if len(of[ref]) == 1 {
				at = fmt.Sprintf("spec.configPatches[%d].patch.value", of[ref][0])
			}
			out = append(out, complaint{ref, at, why.text})
		}
		if len(refs) > 0 {
			continue
		}
		for _, ref := range patchers { // any of them may be
			out = append(out, complaint{ref, "spec.configPatches", why.said()})
		}
	}
	return out
}

// ask returns the patches that are at fault for the first reasons, or that this is not known yet.
func (t *tracer) ask(v *model.View, typeURL, name string, reasons []reason) (found [][]translate.PatchAt, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := question{typeURL: typeURL, name: name, patches: t.stamp(v)}
	var paths, said []string
	for _, r := range reasons {
		paths, said = append(paths, r.path), append(said, r.said())
	}
	q.reasons = strings.Join(said, "\n")
	a := t.answers[q]
	if a == nil {
		a = &answer{question: q, view: v}
		t.answers[q] = a
		t.queue = append(t.queue, a)
	}
	if a.turn != t.turn { // replicas fare alike
		a.turn = t.turn
		n := min(len(paths), maxTraced-t.reasons)
		if t.reasons += n; !a.done {
			a.paths = paths[:n]
		}
		if t.told == nil && n > 0 && !a.done {
			a.find(func() bool { return true })
		}
	}
	return a.found, a.done || len(a.paths) == 0
}

// stamp is the same for the same patches.
func (t *tracer) stamp(v *model.View) (sum uint64) {
	for _, p := range v.Mesh.Patches {
		if !v.PatchedBy(p) {
			continue
		}
		one, ok := t.stamps[p]
		if !ok {
			var h maphash.Hash
			h.SetSeed(t.seed)
			fmt.Fprint(&h, p.From, p.Priority)
			for _, x := range p.List {
				rest := *x
				rest.Value = nil
				text, _ := json.Marshal(rest)
				h.Write(text)
				if x.Value != nil {
					value, _ := proto.MarshalOptions{Deterministic: true}.Marshal(x.Value)
					h.Write(value)
				}
			}
			one = h.Sum64()
			t.stamps[p] = one
		}
		sum = sum*31 + one
	}
	return sum
}

// find answers; goOn is asked whether there is still time.
func (a *answer) find(goOn func() bool) {
	a.found = translate.PatchesAt(a.view, a.typeURL, a.name, a.paths, patched[a.typeURL], goOn)
	a.done, a.view = true, nil
}

// run answers questions until ctx ends.
func (t *tracer) run(ctx context.Context) {
	for {
		select {
		case <-t.work:
		case <-ctx.Done():
			return
		}
		a, mine := t.next()
		if a == nil {
			continue
		}
		began := time.Now()
		mine.find(func() bool { return ctx.Err() == nil && time.Since(began) < maxTracing })
		t.mu.Lock()
		a.found, a.done, a.view = mine.found, true, nil
		t.mu.Unlock()
		t.told()
		select {
		case <-time.After(tracerRests * time.Since(began)):
		case <-ctx.Done():
			return
		}
		t.wanted()
	}
}

// next takes a question to answer, and a copy of it to work on: others look at it meanwhile. Nil: there is none.
func (t *tracer) next() (*answer, answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		return nil, answer{}
	}
	a := t.queue[0]
	t.queue = slices.Delete(t.queue, 0, 1)
	return a, *a
}
