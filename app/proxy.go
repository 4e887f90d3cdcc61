package app

import (
	"context"
	"os"

	"github.com/mallamesh/malla/app/proxy"
)

// Proxy runs `malla proxy run`: a sidecar or gateway of a mesh, or with -c FILE a
// proxy by an Envoy bootstrap. The role itself is package app/proxy.
func Proxy(ctx context.Context, args []string) error {
	return proxy.Command(ctx, "malla proxy run", args, os.Stdout, os.Stderr)
}
