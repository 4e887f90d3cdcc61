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

// Envoy runs `malla proxy envoy`: the Envoy of this machine as a sidecar of a mesh, with its agent.
func Envoy(ctx context.Context, args []string) error {
	return proxy.EnvoyCommand(ctx, "malla proxy envoy", args, os.Stdout, os.Stderr)
}
