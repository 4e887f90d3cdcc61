// Package cli declares what people type: the verbs of `malla`, their flags and
// help, where their answers and errors go, and which mesh they act on.
//
// Verbs on objects are kubectl's own commands, bound to the current mesh, so that
// what people know holds. What a verb starts (the mesh on this machine, a
// dashboard) it is handed by cmd in [Roles]; this package starts nothing itself.
//
// Errors go to stderr as `malla: error: ...`, then `malla: hint: ...` with the next
// thing to type. Exit codes: 0 fine, 1 error, 2 wrong usage, and of `exec` the
// command's own.
package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// Roles are what verbs start, given by cmd. A nil role is a verb that this build
// does not have.
type Roles struct {
	Up   func(context.Context, UpOptions) error
	Stop func(context.Context, StopOptions) error
	URLs func(context.Context, URLsOptions) error
	// Local finds the API of the local mesh called name; nil without an error
	// means that it does not run.
	Local func(name string) (*Local, error)
}

// Local is how to reach a local mesh's API.
type Local struct {
	Mesh   string
	Server string // https://127.0.0.1:PORT
	CA     []byte // PEM
	Token  string
}

// Group names of the help text, in their order.
const (
	groupMesh    = "mesh"
	groupObjects = "objects"
	groupOther   = "other"
)

// Main runs the command line args (without the program's name) and returns the
// exit code.
func Main(ctx context.Context, args []string, roles Roles) int {
	if cwd, err := os.Getwd(); err == nil {
		program = Typed(os.Args[0], cwd)
	}
	return run(ctx, args, roles, genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}, os.Getenv)
}

func run(ctx context.Context, args []string, roles Roles, streams genericiooptions.IOStreams, env func(string) string) (code int) {
	t := newTarget(roles.Local, streams, env)
	root := newRoot(roles, streams, t)
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	return finish(streams.ErrOut, t, func() error { return root.ExecuteContext(ctx) })
}

// newRoot declares every verb.
func newRoot(roles Roles, streams genericiooptions.IOStreams, t *target) *cobra.Command {
	root := &cobra.Command{
		Use:   "malla",
		Short: "A service mesh that runs whole on this machine",
		Long: `malla is a service mesh. It speaks Istio's configuration, needs no change in the
applications, and runs whole on this machine:

  malla up samples/bookinfo     run a mesh here, from a directory of manifests
  malla get pods                look at it: the verbs are kubectl's
  malla stop                    end it, and leave nothing behind

Verbs act on the local mesh if it runs and no kubeconfig flag is given, else on
the cluster of your kubeconfig.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddGroup(&cobra.Group{ID: groupMesh, Title: "The mesh on this machine:"},
		&cobra.Group{ID: groupObjects, Title: "Objects of the mesh (kubectl's commands):"},
		&cobra.Group{ID: groupOther, Title: "Other:"})
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{cmd, err} })
	t.addFlags(root.PersistentFlags())

	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	// Every verb of malla stands here.
	if roles.Up != nil {
		add(groupMesh, newUp(interruptible(roles.Up), t.meshName))
	}
	if roles.Stop != nil {
		add(groupMesh, newStop(interruptible(roles.Stop), t.meshName))
	}
	if roles.URLs != nil {
		add(groupMesh, newURLs(interruptible(roles.URLs), t.meshName))
	}
	add(groupMesh, newKubeconfig(t))
	add(groupObjects, kubectlVerbs(t, streams)...)
	add(groupOther, newVersion())
	if err := completeFlags(root, t); err != nil {
		panic("cli: " + err.Error()) // a flag that addFlags does not declare
	}
	wrapHelp(root, streams.Out)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	return root
}

// interruptible ends a role's context at Ctrl-C and at a request to end. Verbs of
// kubectl keep what these signals do by default: they end the process.
func interruptible[O any](f func(context.Context, O) error) func(context.Context, O) error {
	return func(ctx context.Context, o O) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		return f(ctx, o)
	}
}
