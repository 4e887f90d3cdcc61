package apps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
)

// Run is the role "malla sample NAME ARGS...": it runs the program called
// args[0] until it is done or the process is told to stop, says on stderr why
// it failed unless the program has said so itself, and returns the exit code.
func Run(args []string, env func(string) string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintf(stderr, "malla: error: sample: no program named, want one of %s\n", names())
		return 2
	}
	app, ok := Lookup(args[0])
	if !ok {
		fmt.Fprintf(stderr, "malla: error: sample %q: no such program, want one of %s\n", args[0], names())
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := app.Main(ctx, args[1:], env, stdout, stderr)
	code := ExitCode(err)
	if code != 0 && err.Error() != "" {
		fmt.Fprintf(stderr, "malla: error: sample %s: %v\n", app.Name, err)
	}
	return code
}

// ExitCode is the exit code that a program's result asks for.
func ExitCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return 1
}

func names() string {
	var list []string
	for _, a := range All {
		list = append(list, a.Name)
	}
	return strings.Join(list, ", ")
}
