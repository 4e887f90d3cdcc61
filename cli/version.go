package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/base/version"
)

// newVersion returns `malla version`.
func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  usageArgs(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info := struct {
				Version  string `json:"version"`
				Go       string `json:"goVersion"`
				Platform string `json:"platform"`
			}{version.String(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			var raw []byte
			var err error
			switch output {
			case "":
				raw = fmt.Appendf(nil, "malla %s\n", info.Version)
			case "json":
				raw, err = json.MarshalIndent(info, "", "  ")
				raw = append(raw, '\n')
			case "yaml":
				raw, err = yaml.Marshal(info)
			default:
				return usageError{cmd, fmt.Errorf("-o %q: want json or yaml", output)}
			}
			if err == nil {
				_, err = cmd.OutOrStdout().Write(raw)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`format`: json or yaml")
	return cmd
}
