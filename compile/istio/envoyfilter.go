package istio

import (
	"slices"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	networkingv1alpha3 "istio.io/client-go/pkg/apis/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/envoyfilter"
	"github.com/mallamesh/malla/model"
)

// envoyFilter takes the patches that are right: each stands for itself.
func (c *compiler) envoyFilter() {
	spec, at := &c.obj.Value.(*networkingv1alpha3.EnvoyFilter).Spec, field.At("spec")
	r := envoyfilter.Patches(spec, at)
	p := &model.Patches{From: c.ref, Created: c.obj.Created, Priority: spec.GetPriority(), Selector: spec.GetWorkloadSelector().GetLabels(), List: r.Patches}
	for i, t := range spec.GetTargetRefs() {
		ours := t.GetGroup() == "gateway.networking.k8s.io"
		switch {
		case ours && t.GetKind() == "Gateway" && (t.GetNamespace() == "" || t.GetNamespace() == c.obj.Namespace):
			p.Gateways = append(p.Gateways, t.GetName())
		case ours && t.GetKind() == "GatewayClass" && c.obj.Namespace == c.env.RootNamespace:
			p.Classes = append(p.Classes, t.GetName())
		default:
			c.out.Errors.Addf(at.Child("targetRefs").Index(i), "is %s %q of the group %q, want a Gateway of gateway.networking.k8s.io in the namespace, or in %s a GatewayClass", t.GetKind(), t.GetName(), t.GetGroup(), c.env.RootNamespace)
		}
	}
	c.out.Errors = append(c.out.Errors, r.Errors...)
	for _, n := range r.Notices {
		c.out.Notices.Addf(n.At, "has no effect: %s", n.Why)
	}
	if len(spec.GetTargetRefs()) > 0 && len(p.Gateways)+len(p.Classes) == 0 {
		return // it is for nobody that there is
	}
	for _, patch := range r.Patches {
		if patch.Value != nil {
			p.Secrets = append(p.Secrets, secretsIn(patch.Value)...)
		}
	}
	if len(p.Secrets) > 0 && len(p.Selector)+len(p.Gateways)+len(p.Classes) == 0 {
		c.out.Notices.Addf(at.Child("workloadSelector"), "is missing: gateways get the Secrets that the patches name, sidecars only those of an EnvoyFilter that selects them")
	}
	c.out.Patches = p
}

// secretsIn finds the objects that what a patch says asks the control plane for, however deep that stands.
func secretsIn(m proto.Message) (out []model.NamedSecret) {
	_ = protorange.Range(m.ProtoReflect(), func(v protopath.Values) error { // nothing below returns an error
		last := v.Index(-1).Value
		found, ok := last.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if s, ok := found.Interface().(*tlsv3.SdsSecretConfig); ok {
			if named, ok := namedSecret(s.GetName()); ok && !slices.Contains(out, named) {
				out = append(out, named)
			}
		}
		return nil
	})
	return out
}

// namedSecret reads the name of a resource that an object of the proxy's cluster holds, in Istio's form. Others are not
// the control plane's: its agent has them, or somebody else.
func namedSecret(name string) (model.NamedSecret, bool) {
	object, isSecret := strings.CutPrefix(name, "kubernetes://")
	out := model.NamedSecret{}
	if !isSecret {
		var isMap bool
		if object, isMap = strings.CutPrefix(name, "configmap://"); !isMap {
			return out, false
		}
		out.Source.Kind = model.FromConfigMap
	}
	object, out.Roots = strings.CutSuffix(object, model.RootsSuffix)
	if namespace, rest, ok := strings.Cut(object, "/"); ok {
		out.Source.Namespace, object = namespace, rest
	}
	out.Source.Name = object
	return out, object != "" && !strings.Contains(object, "/") && (isSecret || out.Roots)
}
