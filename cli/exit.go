package cli

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/mallamesh/malla/config/kind"
)

// Exit codes.
const (
	exitFine  = 0
	exitError = 1
	exitUsage = 2
)

// hinted is an error with the next thing to type.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint adds to err what its reader should type next.
func Hint(err error, format string, a ...any) error {
	return hinted{err, fmt.Sprintf(format, a...)}
}

// usageError is a command line that cannot be understood.
type usageError struct {
	cmd *cobra.Command
	error
}

// usageArgs makes a check of arguments one whose errors are wrong usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{cmd, err}
		}
		return nil
	}
}

// noArgs wants no arguments; cobra's own check takes one for a command.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("found argument %q, want none", args[0])
	}
	return nil
}

// stopped is how kubectl's commands, which end the process on an error, are
// brought back to [finish].
type stopped struct {
	msg  string
	code int
}

// kubectl's fatal handler is a global of its package; one command runs at a time.
var kubectlFatal sync.Mutex

// finish runs f, tells its error and returns the exit code.
func finish(w io.Writer, t *target, f func() error) (code int) {
	kubectlFatal.Lock()
	defer kubectlFatal.Unlock()
	cmdutil.BehaviorOnFatal(func(msg string, code int) { panic(stopped{msg, code}) })
	defer cmdutil.DefaultBehaviorOnFatal()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case stopped:
			code = tellStopped(w, r, t)
		default:
			panic(r)
		}
	}()
	return tell(w, f())
}

// tell prints an error of our own.
func tell(w io.Writer, err error) int {
	if err == nil {
		return exitFine
	}
	var u usageError
	var h hinted
	switch {
	case errors.As(err, &u):
		fmt.Fprintf(w, "malla: error: %v\nmalla: hint: %s\n", err, asTyped(u.cmd.CommandPath()+" --help"))
		return exitUsage
	case errors.As(err, &h):
		fmt.Fprintf(w, "malla: error: %v\nmalla: hint: %s\n", err, asTyped(h.hint))
		return exitError
	case strings.HasPrefix(err.Error(), "unknown command "):
		first, rest, _ := strings.Cut(err.Error(), "\n")
		hint := "malla --help"
		_, typed, _ := strings.Cut(first, `"`)
		_, guesses, _ := strings.Cut(rest, "Did you mean this?")
		for _, guess := range strings.Fields(guesses) {
			if guess[0] == typed[0] { // "logs" for "tags" is a distance, not a guess
				hint = "malla " + guess
				break
			}
		}
		fmt.Fprintf(w, "malla: error: %s\nmalla: hint: %s\n", first, asTyped(hint))
		return exitUsage
	}
	fmt.Fprintf(w, "malla: error: %v\n", err)
	return exitError
}

var (
	fromServer = regexp.MustCompile(`^(?i:error) from server(?: \([A-Za-z]+\))?: `)
	seeHelp    = regexp.MustCompile(`(?m)^See '(?:kubectl|malla)(.*?) (?:-h|--help)' for help.*$`)
)

// tellStopped prints the error of a kubectl command in malla's form.
func tellStopped(w io.Writer, s stopped, t *target) int {
	if t.err != nil { // kubectl hands on the text of an error, not its hint
		return tell(w, t.err)
	}
	msg := strings.TrimSpace(s.msg)
	code := s.code
	hint := ""
	if m := seeHelp.FindStringSubmatch(msg); m != nil {
		hint = "malla" + m[1] + " --help"
		msg = strings.TrimSpace(seeHelp.ReplaceAllString(msg, ""))
		code = exitUsage
	}
	for i, line := range strings.Split(msg, "\n") {
		if line == "ensure CRDs are installed first" && t.client != nil {
			continue // the kinds of a local mesh are built in
		}
		line = strings.TrimPrefix(line, "error: ")
		line = fromServer.ReplaceAllString(line, "")
		if i == 0 && line != "" {
			line = "malla: error: " + line
		}
		if line != "" {
			fmt.Fprintln(w, asMalla(line))
		}
	}
	if better := hintFor(msg, t.client != nil); better != "" {
		hint = better
	}
	if hint != "" {
		fmt.Fprintln(w, "malla: hint:", asTyped(hint))
	}
	return code
}

var (
	noKind     = regexp.MustCompile(`no matches for kind "([^"]+)" in version "([^"]+)"`)
	noResource = regexp.MustCompile(`the server doesn't have a resource type "([^"]+)"`)
)

// hintFor knows what helps against some of kubectl's errors.
func hintFor(msg string, local bool) string {
	if strings.HasSuffix(msg, "Required resource not specified.") {
		return "malla get all, or malla get --help"
	}
	if m := noKind.FindStringSubmatch(msg); m != nil && local {
		if gv, err := schema.ParseGroupVersion(m[2]); err == nil {
			if why, ok := kind.RefusedBecause(schema.GroupKind{Group: gv.Group, Kind: m[1]}); ok {
				return m[1] + " is " + why
			}
		}
		return "malla api-resources lists the kinds that there are"
	}
	if m := noResource.FindStringSubmatch(msg); m != nil {
		if r, ok := kind.RefusedResource(m[1]); ok && local {
			return r.Kind + " is " + r.Why + "; malla get refusals shows the documents that were refused"
		}
		return "malla api-resources lists the kinds that there are"
	}
	return ""
}
