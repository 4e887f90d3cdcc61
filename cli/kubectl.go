package cli

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/kubectl/pkg/cmd/annotate"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	"k8s.io/kubectl/pkg/cmd/delete"
	"k8s.io/kubectl/pkg/cmd/describe"
	"k8s.io/kubectl/pkg/cmd/edit"
	"k8s.io/kubectl/pkg/cmd/exec"
	"k8s.io/kubectl/pkg/cmd/get"
	"k8s.io/kubectl/pkg/cmd/label"
	"k8s.io/kubectl/pkg/cmd/logs"
	"k8s.io/kubectl/pkg/cmd/patch"
	"k8s.io/kubectl/pkg/cmd/rollout"
	"k8s.io/kubectl/pkg/cmd/scale"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/wait"
	"k8s.io/kubectl/pkg/util/completion"
)

// kubectlVerbs are kubectl's commands on the target.
func kubectlVerbs(t *target, streams genericiooptions.IOStreams) []*cobra.Command {
	// As in kubectl: this wrapper sets the API version that exec and logs talk to.
	f := cmdutil.NewFactory(cmdutil.NewMatchVersionFlags(t))
	completion.SetFactoryForCompletion(f) // names of objects, at the Tab key
	out := &fitter{Writer: streams.Out}
	fitting := streams
	fitting.Out = out
	get := fitted(out, get.NewCmdGet("malla", f, fitting))
	get.ValidArgsFunction = completion.ResourceTypeAndNameCompletionFunc(f) // kubectl too sets this from outside
	const looks, changes = true, false
	cmds := []*cobra.Command{
		bothGateways(f, get, looks),
		bothGateways(f, describe.NewCmdDescribe("malla", f, streams), looks),
		newApply(f, streams, t),
		bothGateways(f, delete.NewCmdDelete(f, streams), changes),
		bothGateways(f, label.NewCmdLabel(f, streams), changes),
		bothGateways(f, annotate.NewCmdAnnotate("malla", f, streams), changes),
		bothGateways(f, patch.NewCmdPatch(f, streams), changes),
		bothGateways(f, newEdit(f, streams), changes),
		scale.NewCmdScale(f, streams),
		rollout.NewCmdRollout("malla", f, streams),
		bothGateways(f, wait.NewCmdWait(f, streams), changes),
		logs.NewCmdLogs(f, streams),
		exec.NewCmdExec(f, streams),
		apiresources.NewCmdAPIResources(f, streams),
	}
	for _, c := range cmds {
		rename(c)
	}
	return cmds
}

// newEdit is kubectl's edit. What could not be applied is left in a file, which it would have replaced by a verb that is not here.
func newEdit(f cmdutil.Factory, streams genericiooptions.IOStreams) *cobra.Command {
	streams.ErrOut = replacing{streams.ErrOut}
	return edit.NewCmdEdit(f, streams)
}

// replacing writes the verb apply in the place of replace.
type replacing struct{ io.Writer }

func (r replacing) Write(p []byte) (int, error) {
	_, err := r.Writer.Write(bytes.ReplaceAll(p, []byte(" replace -f "), []byte(" apply -f ")))
	return len(p), err
}

// completeFlags offers the values of the flags of every verb.
func completeFlags(root *cobra.Command, t *target) error {
	f := cmdutil.NewFactory(cmdutil.NewMatchVersionFlags(t))
	values := func(list func(toComplete string) []string) cobra.CompletionFunc {
		return func(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return list(toComplete), cobra.ShellCompDirectiveNoFileComp
		}
	}
	return errors.Join(
		root.RegisterFlagCompletionFunc("namespace", values(func(s string) []string { return completion.CompGetResource(f, "namespace", s) })),
		root.RegisterFlagCompletionFunc("context", values(completion.ListContextsInConfig)),
		root.RegisterFlagCompletionFunc("cluster", values(completion.ListClustersInConfig)),
		root.RegisterFlagCompletionFunc("user", values(completion.ListUsersInConfig)),
	)
}

// rename makes help texts say what people type here, in lines that a terminal has room for.
func rename(c *cobra.Command) {
	c.Long, c.Example, c.Short = wrapped(asMalla(c.Long), 80), asMalla(c.Example), asMalla(c.Short)
	for _, sub := range c.Commands() {
		rename(sub)
	}
}

func asMalla(text string) string {
	text = strings.ReplaceAll(text, "kubectl ", "malla ")
	return strings.ReplaceAll(text, "'kubectl'", "'malla'")
}
