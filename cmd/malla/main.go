// Command malla is the whole of malla in one program: it chooses a role by its
// first words, and otherwise is the command line that people use.
//
// Roles that run by the dozen (sidecars, pods' own stages) are chosen before the
// command line is built, which costs time and memory.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mallamesh/malla/cli"
)

// A role is a long-running part of the program, started by its first words.
type role struct {
	words []string
	run   func(ctx context.Context, args []string) int
}

// roles are looked at in order.
var roles = []role{}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	for _, r := range roles {
		if startsWith(args, r.words) {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return r.run(ctx, args[len(r.words):])
		}
	}
	return cli.Main(context.Background(), args, cli.Roles{})
}

func startsWith(args, words []string) bool {
	if len(args) < len(words) {
		return false
	}
	for i, w := range words {
		if args[i] != w {
			return false
		}
	}
	return true
}
