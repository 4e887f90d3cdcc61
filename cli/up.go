package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// UpOptions are the words of `malla up`.
type UpOptions struct {
	Mesh      string   // name of the mesh
	Paths     []string // directories or files with manifests
	Recursive bool
	Inject    bool     // sidecars for every pod
	Detach    bool     // return when everything is ready
	Publish   []string // HOST:PORT, see docs
	Images    []string // PATTERN=COMMAND, or a file with one on each line
	Out, Err  io.Writer
	Terminal  bool // Out is a terminal: progress may redraw
}

// StopOptions are the words of `malla stop`.
type StopOptions struct {
	Mesh string
	All  bool
	Out  io.Writer
}

// newUp returns `malla up`; start runs it.
func newUp(start func(context.Context, UpOptions) error, mesh func() string) *cobra.Command {
	var o UpOptions
	cmd := &cobra.Command{
		Use:   "up [flags] DIR...",
		Short: "Run a whole mesh on this machine from a directory of manifests",
		Long: `Run a whole mesh on this machine: the manifests of DIR as real processes, each
with its sidecar, mutual TLS, a gateway, DNS and a control plane. No Kubernetes,
containers, images or root are needed.

DIR is built with its kustomization.yaml if there is one, else its .yaml, .yml and
.json files are read (-R: those below it too). It is watched: saving a file is an
apply, removing it a delete. Ctrl-C ends the mesh and leaves nothing behind, and so
does the end of its terminal, unless it runs with nohup or --detach.`,
		Example: `  malla up samples/bookinfo
  malla up --detach --inject my-manifests/
  malla up --image 'example.com/shop:*=./shop --port 8080' deploy/
  malla --mesh other up samples/hello`,
		Args: usageArgs(needDir),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Mesh, o.Paths, o.Out, o.Err = mesh(), args, cmd.OutOrStdout(), cmd.ErrOrStderr()
			o.Terminal = isTerminal(o.Out)
			for _, p := range o.Publish {
				if err := checkPublish(p); err != nil {
					return usageError{cmd, err}
				}
			}
			return start(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Recursive, "recursive", "R", false, "read the directories below DIR too")
	f.BoolVar(&o.Inject, "inject", false, "give every pod a sidecar, without asking for namespace labels")
	f.BoolVar(&o.Detach, "detach", false, "return when everything is ready, and leave the mesh running")
	f.StringArrayVar(&o.Publish, "publish", nil, "offer PORT of a Gateway or LoadBalancer on port HOST of this machine, as `HOST:PORT` (repeatable)")
	f.StringArrayVar(&o.Images, "image", nil, "as `PATTERN=COMMAND`, run COMMAND for images that match PATTERN; or a file with such lines (repeatable)")
	return cmd
}

// needDir wants to know what to run.
func needDir(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("want a directory with manifests, as samples/bookinfo")
	}
	return nil
}

// newStop returns `malla stop`; stop does it.
func newStop(stop func(context.Context, StopOptions) error, mesh func() string) *cobra.Command {
	var o StopOptions
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "End the local mesh that runs in the background",
		Args:  usageArgs(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Mesh, o.Out = mesh(), cmd.OutOrStdout()
			return stop(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.All, "all", false, "end every local mesh of this user")
	return cmd
}

// URLsOptions are the words of `malla urls`.
type URLsOptions struct {
	Mesh string
	Out  io.Writer
}

// newURLs returns `malla urls`; urls prints them.
func newURLs(urls func(context.Context, URLsOptions) error, mesh func() string) *cobra.Command {
	return &cobra.Command{
		Use:   "urls",
		Short: "Show where the local mesh is reached from this machine",
		Args:  usageArgs(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return urls(cmd.Context(), URLsOptions{Mesh: mesh(), Out: cmd.OutOrStdout()})
		},
	}
}

// checkPublish accepts HOST:PORT, both port numbers.
func checkPublish(s string) error {
	var host, port uint16
	if n, err := fmt.Sscanf(s, "%d:%d", &host, &port); err != nil || n != 2 || host == 0 || port == 0 || strings.Count(s, ":") != 1 {
		return fmt.Errorf("--publish %q: want HOST:PORT, two port numbers, as 9090:80", s)
	}
	return nil
}
