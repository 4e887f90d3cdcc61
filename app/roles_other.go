//go:build !linux

package app

import (
	"context"
	"errors"
	"runtime"

	"github.com/mallamesh/malla/cli"
)

// systemRoles are those that need Linux.
func systemRoles() []Role { return nil }

var errLinux = cli.Hint(errors.New("a mesh on one machine needs Linux; this is "+runtime.GOOS),
	"use a Linux machine or a virtual machine; the verbs for clusters work here: malla --context NAME get pods")

// Verbs are what the command line starts.
func Verbs() cli.Roles {
	return cli.Roles{
		Up:   func(context.Context, cli.UpOptions) error { return errLinux },
		Stop: func(context.Context, cli.StopOptions) error { return errLinux },
		URLs: func(context.Context, cli.URLsOptions) error { return errLinux },
	}
}
