package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// bothGateways lets a verb find Istio's Gateways and those of Gateway API by the one
// word gateway: who types it may mean either, and kubectl would take the kind whose
// group comes first. A verb that looks takes both; one that changes takes the kind
// that has such an object, and asks which if both have. Only one kind can be watched.
func bothGateways(f cmdutil.Factory, verb *cobra.Command, looks bool) *cobra.Command {
	run := verb.Run
	verb.Run = func(c *cobra.Command, args []string) {
		if watch, _ := c.Flags().GetBool("watch"); !watch && len(args) > 0 && mentionsGateway(args) {
			l := &lookup{ctx: c.Context(), f: f, looks: looks}
			l.all, _ = c.Flags().GetBool("all-namespaces")
			l.selector, _ = c.Flags().GetString("selector")
			var err error
			args, err = l.spread(args)
			cmdutil.CheckErr(err)
		}
		run(c, args)
	}
	return verb
}

func isGateway(word string) bool {
	return strings.EqualFold(word, "gateway") || strings.EqualFold(word, "gateways")
}

// mentionsGateway reports whether the word is there in the place of a kind.
func mentionsGateway(args []string) bool {
	if slices.ContainsFunc(strings.Split(args[0], ","), isGateway) {
		return true
	}
	return slices.ContainsFunc(args, func(a string) bool {
		kind, _, slash := strings.Cut(a, "/")
		return slash && isGateway(kind)
	})
}

// A lookup says which kinds the word gateway stands for.
type lookup struct {
	ctx      context.Context
	f        cmdutil.Factory
	looks    bool   // the verb changes nothing
	all      bool   // in all namespaces
	selector string // of the objects that are meant
}

// spread returns the words of a command with kinds and their groups in place of the word.
func (l *lookup) spread(args []string) ([]string, error) {
	kinds, err := l.kinds()
	if err != nil || len(kinds) < 2 {
		return args, nil // what is wrong, the verb itself will say
	}
	if strings.Contains(args[0], "/") {
		return l.slashes(args, kinds)
	}
	words := strings.Split(args[0], ",")
	i := slices.IndexFunc(words, isGateway)
	var names, rest []string
	for _, a := range args[1:] {
		if strings.Contains(a, "=") || strings.HasSuffix(a, "-") { // what label and annotate set and remove
			rest = append(rest, a)
		} else {
			names = append(names, a)
		}
	}
	meant, perName, err := l.meant(kinds, names)
	if err != nil {
		return nil, err
	}
	if len(meant) > 1 && len(names) > 0 && len(words) == 1 {
		return append(perName, rest...), nil // a name of one kind is not missed among those of the other
	}
	words = slices.Replace(words, i, i+1, texts(meant)...)
	return append([]string{strings.Join(words, ",")}, args[1:]...), nil
}

// slashes is spread for words as gateway/public.
func (l *lookup) slashes(args []string, kinds []schema.GroupVersionResource) ([]string, error) {
	var out []string
	for _, a := range args {
		word, name, _ := strings.Cut(a, "/")
		if !isGateway(word) {
			out = append(out, a)
			continue
		}
		_, perName, err := l.meant(kinds, []string{name})
		if err != nil {
			return nil, err
		}
		out = append(out, perName...)
	}
	return out, nil
}

// meant returns the kinds that have objects of the names, or without names any, and
// each name behind its kind. A name that neither has is one of the first kind, whose
// absence the verb tells.
func (l *lookup) meant(kinds []schema.GroupVersionResource, names []string) (meant []schema.GroupVersionResource, perName []string, err error) {
	if len(names) == 0 {
		if l.looks {
			return kinds, nil, nil
		}
		having := l.having(kinds, "")
		if len(having) > 1 {
			return nil, nil, ambiguous("gateways are", having, "")
		}
		return append(having, kinds[0])[:1], nil, nil
	}
	for _, name := range names {
		having := l.having(kinds, name)
		if len(having) > 1 && !l.looks {
			return nil, nil, ambiguous("gateway "+name+" is", having, "/"+name)
		}
		if len(having) == 0 {
			having = kinds[:1]
		}
		for _, k := range having {
			perName = append(perName, k.GroupResource().String()+"/"+name)
			if !slices.Contains(meant, k) {
				meant = append(meant, k)
			}
		}
	}
	return meant, perName, nil
}

func ambiguous(what string, kinds []schema.GroupVersionResource, suffix string) error {
	return fmt.Errorf("%s of more than one kind here: say %s%s or %s%s",
		what, kinds[0].GroupResource(), suffix, kinds[1].GroupResource(), suffix)
}

// kinds are those of the server called gateways, one version of each.
func (l *lookup) kinds() ([]schema.GroupVersionResource, error) {
	mapper, err := l.f.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	all, err := mapper.ResourcesFor(schema.GroupVersionResource{Resource: "gateways"})
	if err != nil {
		return nil, err
	}
	var kinds []schema.GroupVersionResource
	for _, r := range all {
		if !slices.ContainsFunc(kinds, func(k schema.GroupVersionResource) bool { return k.GroupResource() == r.GroupResource() }) {
			kinds = append(kinds, r)
		}
	}
	return kinds, nil
}

// having returns those of the kinds with an object of that name, or with any if it is "".
func (l *lookup) having(kinds []schema.GroupVersionResource, name string) []schema.GroupVersionResource {
	client, err := l.f.DynamicClient()
	if err != nil {
		return nil
	}
	namespace, _, err := l.f.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil
	}
	if l.all {
		namespace = metav1.NamespaceAll
	}
	var out []schema.GroupVersionResource
	for _, k := range kinds {
		there := false
		if name != "" {
			_, err := client.Resource(k).Namespace(namespace).Get(l.ctx, name, metav1.GetOptions{})
			there = err == nil
		} else if list, err := client.Resource(k).Namespace(namespace).List(l.ctx, metav1.ListOptions{Limit: 1, LabelSelector: l.selector}); err == nil {
			there = len(list.Items) > 0
		}
		if there {
			out = append(out, k)
		}
	}
	return out
}

func texts(kinds []schema.GroupVersionResource) []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.GroupResource().String()
	}
	return out
}
