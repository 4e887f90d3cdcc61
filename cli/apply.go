package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/kubectl/pkg/cmd/apply"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/load"
	"github.com/mallamesh/malla/config/validate"
)

// newApply is kubectl's apply with `malla up`'s reader before it: every document is
// judged where it was written, whether it comes from a file, a directory, an address, the
// standard input or a kustomization. What is wrong is told as `up` tells it, all of it
// at once; what is right is applied all the same, as in kubectl.
func newApply(f cmdutil.Factory, streams genericiooptions.IOStreams, t *target) *cobra.Command {
	flags := apply.NewApplyFlags(streams)
	cmd := apply.NewCmdApply("malla", f, streams)
	cmd.ResetFlags() // they are bound to options that nobody else can see
	flags.AddFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o, err := flags.ToOptions(f, cmd, "malla", args)
		cmdutil.CheckErr(err)
		cmdutil.CheckErr(o.Validate())
		if files := o.DeleteOptions.FilenameOptions; files.Kustomize != "" && (len(files.Filenames) > 0 || files.Recursive) {
			return usageError{cmd, errors.New("-k cannot be used with -f or -R")}
		}
		wrong, err := applyDocuments(cmd.Context(), f, o, t.client != nil)
		for _, e := range wrong {
			fmt.Fprintln(streams.ErrOut, "malla: error: "+e.Error())
		}
		if errors.As(err, new(hinted)) {
			return err
		}
		cmdutil.CheckErr(err)
		if len(wrong) > 0 {
			cmdutil.CheckErr(cmdutil.ErrExit) // all is said
		}
		return nil
	}
	return cmd
}

// applyDocuments applies what is right and returns what is not, and what went wrong.
func applyDocuments(ctx context.Context, f cmdutil.Factory, o *apply.ApplyOptions, local bool) (field.List, error) {
	files := o.DeleteOptions.FilenameOptions
	if info, err := os.Stat(files.Kustomize); files.Kustomize != "" && (err != nil || !info.IsDir()) {
		return nil, o.Run() // an address, which kubectl fetches with git
	}
	docs, wrong := documents(ctx, files, o.In)
	selector, err := labels.Parse(o.Selector)
	if err != nil {
		return nil, err
	}
	// A cluster knows kinds and fields that are not in our tables: it judges for itself.
	judging := local && o.ValidationDirective == metav1.FieldValidationStrict
	builder := f.NewBuilder().Unstructured().Schema(o.Validator).ContinueOnError().NamespaceParam(o.Namespace).DefaultNamespace()
	if o.EnforceNamespace {
		builder.RequireNamespace()
	}
	right := 0
	for _, d := range docs {
		if !selector.Matches(labels.Set(d.Object.GetLabels())) {
			continue
		}
		if judging {
			if errs := judge(d, o.Namespace); len(errs) > 0 {
				wrong = append(wrong, errs...)
				continue
			}
		}
		text, err := d.Object.MarshalJSON()
		if err != nil { // it has no kind, which the server would say
			wrong = append(wrong, &field.Error{Pos: d.Source(), Msg: err.Error()})
			continue
		}
		builder.Stream(bytes.NewReader(text), d.Source())
		right++
	}
	if right == 0 && len(wrong) > 0 {
		return wrong, nil
	}
	if right == 0 {
		return nil, Hint(fmt.Errorf("nothing to apply in %s", named(files)), "malla apply --help")
	}
	infos, err := builder.Flatten().Do().Infos()
	if o.ApplySet != nil {
		if err := o.ApplySet.AddLabels(infos...); err != nil {
			return wrong, err
		}
	}
	if len(wrong) > 0 || err != nil {
		o.Prune = false // what was refused is not gone from the files
	}
	if len(infos) == 0 {
		return wrong, err
	}
	o.SetObjects(infos)
	if applied := o.Run(); applied != nil && err != nil {
		return wrong, utilerrors.NewAggregate([]error{err, applied})
	} else if applied != nil {
		return wrong, applied
	}
	return wrong, err
}

// judge returns all that is wrong with a document that goes into the namespace if it names none.
func judge(d *load.Doc, namespace string) field.List {
	if k, ok := kind.ByGVK(d.Object.GroupVersionKind()); ok && k.Namespaced && d.Object.GetNamespace() == "" {
		d.Object.SetNamespace(namespace)
	}
	return validate.Object(d.Object, d.Pos).Errors
}

// named is the files as they were typed, for a message.
func named(o resource.FilenameOptions) string {
	if len(o.Filenames) == 0 {
		return o.Kustomize
	}
	if o.Filenames[0] == "-" {
		return "the standard input"
	}
	name := o.Filenames[0]
	if info, err := os.Stat(name); err == nil && info.IsDir() && !o.Recursive {
		return name + " (the files " + filepath.Join(name, "*.yaml") + ", .yml and .json; -R: those below it too)"
	}
	return name
}
