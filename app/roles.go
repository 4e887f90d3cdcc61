// Package app is the roles of the program: the control plane, the proxy, the
// parent and the supervisor of a mesh on this machine, the sample programs.
//
// A file for each role builds its parts from the packages below, starts them and
// ends them in order. What the parts do is theirs; nothing here is imported by
// them.
package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mallamesh/malla/base/resident"
	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/samples/apps"
)

// A Role is a long-running part of the program, chosen by the first words of the
// command line. Roles are looked for before the commands that people use are
// built, which costs time and memory.
type Role struct {
	Words []string
	Run   func(ctx context.Context, args []string) int
}

// Roles lists the roles of this build.
func Roles() []Role {
	return append([]Role{
		{[]string{"control", "run"}, exit("control", func(ctx context.Context, args []string) error { return controlCommand(ctx, args, os.Stderr) })},
		{[]string{"proxy", "run"}, exit("proxy", Proxy)},
		{inject.EnvoyRole, exit("proxy envoy", Envoy)},
		{[]string{"sample"}, func(_ context.Context, args []string) int { return apps.Run(args, os.Getenv, os.Stdout, os.Stderr) }},
	}, systemRoles()...)
}

// Settle gives back to the system what starting has left over. Each of the thirty
// processes of a small mesh pays for the initialization of every package in the
// program; without this it would keep that memory until its heap has grown past it.
func Settle() {
	resident.Trim()
	time.AfterFunc(settled, resident.Trim)
}

// settled is when a role has started.
const settled = 3 * time.Second

// exit runs a role and turns its error into a line and an exit code.
func exit(name string, run func(context.Context, []string) error) func(context.Context, []string) int {
	return func(ctx context.Context, args []string) int {
		if err := run(ctx, args); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintf(os.Stderr, "malla %s: error: %v\n", name, err)
			return 1
		}
		return 0
	}
}
