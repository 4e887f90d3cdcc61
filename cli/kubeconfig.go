package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
)

// newKubeconfig returns `malla kubeconfig`.
func newKubeconfig(t *target) *cobra.Command {
	return &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print a kubeconfig of the local mesh, for kubectl, k9s and others",
		Long: `Print a kubeconfig of the local mesh. It holds the administrator's token and is
valid as long as the mesh runs.`,
		Example: `  malla kubeconfig > mesh.kubeconfig
  kubectl --kubeconfig mesh.kubeconfig get pods`,
		Args: usageArgs(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l *Local
			var err error
			if t.find != nil {
				l, err = t.find(t.meshName())
			}
			if err != nil {
				return err
			}
			if l == nil {
				return Hint(fmt.Errorf("no local mesh %q runs", t.meshName()), "malla %sup DIR", t.meshFlag())
			}
			raw, err := clientcmd.Write(*l.kubeconfig())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
	}
}
