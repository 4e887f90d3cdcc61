// Package regex compiles the regular expressions of configuration, which are matched against what
// strangers send, inside a proxy's turn.
//
// The syntax is RE2's, and time grows with the length of the value only, times the number of
// places in the expression where a match may stand at once. (.*a){1000} has a thousand and more of
// these, and would take seconds for a long header; so that number is bounded. Envoy bounds the size of
// the program instead, which refuses long lists of names, though they cost little.
//
// How the result is used, and by whom it is shared, is left to the caller.
package regex

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

const (
	// MaxProgram is the number of instructions that an expression may be compiled to.
	MaxProgram = 16 << 10
	// MaxPlaces is the number of places where a match may stand at once: so many
	// take some 10 ms for 8 KiB.
	MaxPlaces = 100

	maxStates = 250     // that are looked at
	maxWork   = 2 << 20 // instructions that are looked at meanwhile
)

// Compile is [regexp.Compile] for an expression from configuration.
func Compile(expr string) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if n := size(tree); n > 2*MaxProgram { // a{1000}a{1000}... of a few KiB would take hundreds of MiB before it can be counted
		return nil, tooLong(n)
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if n := len(prog.Inst); n > MaxProgram {
		return nil, tooLong(n)
	}
	if n := places(prog); n > MaxPlaces {
		return nil, fmt.Errorf("a match may stand in %d places of it at once, want at most %d: fewer repetitions of .* and its like cost less", n, MaxPlaces)
	}
	return re, nil
}

func tooLong(n int) error {
	return fmt.Errorf("it is compiled to %d instructions, want at most %d", n, MaxProgram)
}

// size is about how many instructions the expression will be compiled to, repetitions written out.
func size(tree *syntax.Regexp) int {
	n := 0
	for _, sub := range tree.Sub {
		n += size(sub)
	}
	switch tree.Op {
	case syntax.OpLiteral:
		return len(tree.Rune)
	case syntax.OpRepeat:
		return n * max(tree.Min, tree.Max, 1) // the parser has seen to it that this is no more than some millions
	case syntax.OpConcat, syntax.OpAlternate:
		return n
	}
	return n + 1
}

// places follows the program over texts, and returns the largest number of places that
// it saw. The first place of a text does not count: there an expression may have as many
// alternatives as it likes.
func places(prog *syntax.Prog) int {
	if len(prog.Inst) <= MaxPlaces {
		return 0 // there are no more places than instructions
	}
	w := &walk{prog: prog, seen: make([]uint32, len(prog.Inst)), work: maxWork}
	samples := w.samples()
	start := w.closure([]uint32{uint32(prog.Start)})
	queue, known, most := [][]uint32{start}, map[string]bool{}, 0
	for len(queue) > 0 && len(known) < maxStates && w.work > 0 && most <= MaxPlaces {
		last := len(queue) - 1
		state := queue[last]
		queue = queue[:last]
		for _, r := range samples {
			next := w.step(state, r)
			most = max(most, len(next))
			key := keyOf(next)
			if len(next) > 0 && !known[key] {
				known[key] = true
				queue = append(queue, next)
			}
		}
		// On from where most places are: among states without number, that is the way to the worst.
		slices.SortStableFunc(queue[last:], func(a, b []uint32) int { return len(a) - len(b) })
	}
	return most
}

type walk struct {
	prog *syntax.Prog
	seen []uint32 // the round in which an instruction was seen last
	turn uint32
	work int
}

// closure returns the instructions that want a character, from those given on. What asks for a
// place in the text (^, \b) is taken to be fulfilled.
func (w *walk) closure(from []uint32) (out []uint32) {
	w.turn++
	stack := slices.Clone(from)
	for len(stack) > 0 {
		pc := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if w.seen[pc] == w.turn {
			continue
		}
		w.seen[pc] = w.turn
		w.work--
		switch i := &w.prog.Inst[pc]; i.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			stack = append(stack, i.Arg, i.Out)
		case syntax.InstCapture, syntax.InstNop, syntax.InstEmptyWidth:
			stack = append(stack, i.Out)
		case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
			out = append(out, pc)
		}
	}
	slices.Sort(out)
	return out
}

func (w *walk) step(state []uint32, r rune) []uint32 {
	var out []uint32
	for _, pc := range state {
		w.work--
		if i := &w.prog.Inst[pc]; i.MatchRune(r) {
			out = append(out, i.Out)
		}
	}
	return w.closure(out)
}

// maxSamples is how many characters are tried.
const maxSamples = 40

// samples are characters that the expression tells apart, and one more.
func (w *walk) samples() []rune {
	out := []rune{'~'}
	for i := range w.prog.Inst {
		for _, r := range w.prog.Inst[i].Rune {
			if len(out) < maxSamples && utf8.ValidRune(r) && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}

func keyOf(state []uint32) string {
	b := make([]byte, 0, 2*len(state))
	for _, pc := range state {
		b = append(b, byte(pc), byte(pc>>8)) // MaxProgram fits
	}
	return string(b)
}
