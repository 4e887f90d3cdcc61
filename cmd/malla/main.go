// Command malla is the whole of malla in one program: it chooses a role by its
// first words, and otherwise is the command line that people use.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mallamesh/malla/app"
	"github.com/mallamesh/malla/base/hangup"
	"github.com/mallamesh/malla/cli"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	for _, r := range app.Roles() {
		if startsWith(args, r.Words) {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			hangup.Ignore()
			app.Settle()
			return r.Run(ctx, args[len(r.Words):])
		}
	}
	return cli.Main(context.Background(), args, app.Verbs())
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
