package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// bothGateways lets `get gateway` show Istio's Gateways and those of Gateway API, each
// with its group: who types the word may mean either, and kubectl would take the one
// whose group comes first. A named one is looked for in both. Only one kind can be watched.
func bothGateways(f cmdutil.Factory, get *cobra.Command) {
	run := get.Run
	get.Run = func(c *cobra.Command, args []string) {
		if watch, _ := c.Flags().GetBool("watch"); !watch && len(args) > 0 {
			args[0] = spread(args[0], func() []string { return gatewayResources(c, f, args[1:]) })
		}
		run(c, args)
	}
}

// spread puts the resources in place of the word gateway in a list of types.
func spread(types string, resources func() []string) string {
	if strings.Contains(types, "/") {
		return types
	}
	words := strings.Split(types, ",")
	i := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, "gateway") || strings.EqualFold(w, "gateways") })
	if i < 0 {
		return types
	}
	if all := resources(); len(all) > 0 {
		words = slices.Replace(words, i, i+1, all...)
	}
	return strings.Join(words, ",")
}

// gatewayResources are those of the server called gateways, of objects with the names
// only those that have one.
func gatewayResources(c *cobra.Command, f cmdutil.Factory, names []string) []string {
	mapper, err := f.ToRESTMapper()
	if err != nil {
		return nil // the command itself will say so
	}
	all, err := mapper.ResourcesFor(schema.GroupVersionResource{Resource: "gateways"})
	if err != nil {
		return nil
	}
	var out, having []string
	for _, r := range all {
		word := r.GroupResource().String()
		if slices.Contains(out, word) {
			continue
		}
		out = append(out, word)
		if exists(c, f, r, names) {
			having = append(having, word)
		}
	}
	switch {
	case len(names) == 0:
		return out
	case len(having) > 0:
		return having
	}
	return out[:min(1, len(out))]
}

// exists reports whether the server has an object of one of the names.
func exists(c *cobra.Command, f cmdutil.Factory, r schema.GroupVersionResource, names []string) bool {
	if len(names) == 0 {
		return false
	}
	client, err := f.DynamicClient()
	if err != nil {
		return false
	}
	namespace, _, err := f.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool {
		_, err := client.Resource(r).Namespace(namespace).Get(c.Context(), name, metav1.GetOptions{})
		return err == nil
	})
}
