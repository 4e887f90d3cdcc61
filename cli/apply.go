package cli

import (
	"os"

	"github.com/spf13/cobra"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/load"
)

// readableFirst has apply read its files as `malla up` does before anything is sent: kubectl's reader takes a key that is written twice, of which
// the last one wins, and names no line.
func readableFirst(apply *cobra.Command) {
	run := apply.Run
	apply.Run = func(cmd *cobra.Command, args []string) {
		files, err := cmd.Flags().GetStringSlice("filename")
		if err == nil {
			err = readable(files)
		}
		cmdutil.CheckErr(err)
		run(cmd, args)
	}
}

// readable returns all that is wrong with the text of files. Directories, addresses and the standard input are left to kubectl.
func readable(files []string) error {
	var errs field.List
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			continue
		}
		r, err := load.Path(name, false)
		if err != nil {
			return err
		}
		errs = append(errs, r.Errors...)
	}
	return errs.Err()
}
