// Command malla-proxy is the proxy alone: the lean image of a sidecar, and a proxy
// that reads Envoy's bootstrap files.
//
// default.pgo, which the go command finds by itself, tells the compiler which code is hot. It is what the proxy has
// recorded of itself while it did the works of the bench (make profile). An old one does no harm: what has another
// name by now is compiled like the rest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/mallamesh/malla/app/proxy"
	"github.com/mallamesh/malla/base/hangup"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	hangup.Ignore()
	err := proxy.Command(ctx, "malla-proxy", args, os.Stdout, os.Stderr)
	var usage proxy.ErrUsage
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "malla-proxy: error: %v\nmalla-proxy: hint: %s --help\n", err, os.Args[0])
		return 2
	}
	fmt.Fprintln(os.Stderr, "malla-proxy: error:", err)
	return 1
}
