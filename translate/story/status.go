package story

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/model"
)

// status prints where Ingresses are reached, and what the objects of Gateway API are told, one line for each of their parts: the conditions that hold by
// their names, those that do not with their reasons, and the texts of what is wrong; then what is deployed.
func (s *Story) status() string {
	var b strings.Builder
	if points := compile.IngressPoints(s.snapshot, s.View.Mesh.Config); points != nil {
		for _, o := range compile.Ingresses(s.View.Mesh) {
			fmt.Fprintf(&b, "%s at %v\n", o, points)
		}
	}
	result := compile.GatewayAPI(s.View.Mesh)
	if result == nil {
		return cmp.Or(b.String(), "none\n")
	}
	for _, ref := range slices.SortedFunc(maps.Keys(result.Status), func(a, b model.Ref) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	}) {
		kind, _, _ := strings.Cut(ref.Kind, ".")
		name := kind + " " + strings.TrimPrefix(ref.Namespace+"/"+ref.Name, "/")
		switch x := result.Status[ref].(type) {
		case *gatewayv1.GatewayClassStatus:
			told(&b, name, x.Conditions)
		case *gatewayv1.GatewayStatus:
			if x.AttachedListenerSets != nil {
				name += fmt.Sprintf(" (%d sets)", *x.AttachedListenerSets)
			}
			told(&b, name, x.Conditions)
			for _, l := range x.Listeners {
				told(&b, listened(l.Name, l.SupportedKinds, l.AttachedRoutes), l.Conditions)
			}
		case *gatewayv1.ListenerSetStatus:
			told(&b, name, x.Conditions)
			for _, l := range x.Listeners {
				told(&b, listened(l.Name, l.SupportedKinds, l.AttachedRoutes), l.Conditions)
			}
		case *gatewayv1.RouteStatus:
			for _, p := range x.Parents {
				told(&b, name+" at "+parent(p.ParentRef), p.Conditions)
			}
		case *gatewayv1.PolicyStatus:
			for _, a := range x.Ancestors {
				told(&b, name+" at "+parent(a.AncestorRef), a.Conditions)
			}
			if len(x.Ancestors) == 0 {
				fmt.Fprintf(&b, "%s: nobody's\n", name)
			}
		}
	}
	for _, d := range result.Deployments {
		fmt.Fprintf(&b, "deployed %s/%s:", d.Gateway.Namespace, d.Name)
		for _, p := range d.Ports {
			fmt.Fprintf(&b, " %s", p.Name)
		}
		for _, l := range slices.Sorted(maps.Keys(d.Labels)) {
			fmt.Fprintf(&b, " label %s=%s", l, d.Labels[l])
		}
		for _, a := range slices.Sorted(maps.Keys(d.Annotations)) {
			fmt.Fprintf(&b, " annotation %s=%s", a, d.Annotations[a])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func listened(name gatewayv1.SectionName, kinds []gatewayv1.RouteGroupKind, routes int32) string {
	var of []string
	for _, k := range kinds {
		of = append(of, strings.TrimSuffix(string(k.Kind), "Route"))
	}
	return fmt.Sprintf("  %s [%s] %d routes", name, strings.Join(of, " "), routes)
}

func parent(p gatewayv1.ParentReference) string {
	out := string(p.Name)
	if p.Kind != nil && *p.Kind != "Gateway" {
		out = string(*p.Kind) + " " + out
	}
	if p.SectionName != nil {
		out += "/" + string(*p.SectionName)
	}
	if p.Port != nil {
		out += fmt.Sprintf(":%d", *p.Port)
	}
	return out
}

// told prints conditions. What is not the case and good so (Conflicted) is not printed.
func told(b *strings.Builder, of string, list []metav1.Condition) {
	b.WriteString(of + ":")
	var texts []string
	for _, c := range list {
		good := c.Status == metav1.ConditionTrue
		switch {
		case c.Reason == "NoConflicts":
			continue
		case good && c.Reason == c.Type:
			fmt.Fprintf(b, " %s", c.Type)
			continue
		case good:
			fmt.Fprintf(b, " %s(%s)", c.Type, c.Reason)
		default:
			fmt.Fprintf(b, " not %s(%s)", c.Type, c.Reason)
		}
		if !slices.Contains(texts, c.Message) {
			texts = append(texts, c.Message)
		}
	}
	b.WriteByte('\n')
	for _, t := range texts {
		fmt.Fprintf(b, "      %s\n", t)
	}
}
