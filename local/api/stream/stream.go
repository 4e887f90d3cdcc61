// Package stream carries the input and output of one command in a pod over a
// client's connection: WebSocket (channel protocols v4 and v5, what today's
// kubectl speaks) and SPDY (what older clients speak).
//
// It does not know pods: it hands [Streams] to a function and reports how that
// function ended, in the form kubectl makes its exit code from.
package stream

import (
	"fmt"
	"io"
)

// Streams are the ends of one command. Those that were not asked for are nil.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer // with TTY, Stderr is nil
	TTY            bool
	Resize         <-chan Size // closed when the client goes; nil without TTY
}

// Size is a terminal's, in characters.
type Size struct {
	Width, Height uint16
}

// ExitError is the end of a command with a status other than 0.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("command ended with exit code %d", e.Code) }

// ExitStatus returns the code.
func (e *ExitError) ExitStatus() int { return e.Code }
