package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Typed is how a person called this program, for the commands that they are told to
// type next: who tries it with `go run`, or from bin/, has no malla on the PATH. arg0
// is the process's own first word, dir where it was typed.
func Typed(arg0, dir string) string {
	const ours = "cmd/malla"
	switch {
	case strings.Contains(arg0, "/go-build") && filepath.Base(filepath.Dir(arg0)) == "exe": // a binary that `go run` removes again
		if _, err := os.Stat(filepath.Join(dir, ours)); err == nil {
			return "go run ./" + ours
		}
	case strings.HasPrefix(arg0, "/proc/"):
	case arg0 != "":
		return arg0
	}
	return "malla"
}

// program is how hints call this program; [Main] finds out, before anything else.
var program = "malla"

// asTyped makes the commands of a hint ones that can be typed here.
func asTyped(hint string) string {
	return command.ReplaceAllString(hint, "${1}"+strings.ReplaceAll(program, "$", "$$")+" ")
}

// command is the word malla where a command begins: not in a path, nor after a dash.
var command = regexp.MustCompile(`(^|[\s(])malla `)
