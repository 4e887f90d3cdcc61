package app

import (
	"os"
	"path/filepath"
	"strings"
)

// typed is how a person called this program, for the commands that they are told to
// type next: who tries it with `go run`, or from bin/, has no malla on the PATH. arg0
// is the process's own first word, dir where it was typed.
func typed(arg0, dir string) string {
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
