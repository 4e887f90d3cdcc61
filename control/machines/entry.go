package machines

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"istio.io/api/annotation"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/model"
)

// Annotations of an entry.
var (
	groupAnnotation      = annotation.IoIstioAutoRegistrationGroup.Name
	controllerAnnotation = annotation.IoIstioWorkloadController.Name
	sinceAnnotation      = annotation.IoIstioConnectedAt.Name
	goneAnnotation       = annotation.IoIstioDisconnectedAt.Name
)

// Metadata of a node.
const (
	groupMetadata   = "AUTO_REGISTER_GROUP"
	entryMetadata   = "WORKLOAD_ENTRY"
	networkMetadata = "NETWORK"
)

// maxName is how long the name of an object may be; of a longer one the end counts, which tells machines apart.
const maxName = 253

// entryName is what the entry of a proxy is called.
func entryName(group string, p *model.Proxy) string {
	name := group + "-" + strings.ReplaceAll(p.IPs[0].String(), ":", "-")
	if network := p.Metadata[networkMetadata]; network != "" {
		name += "-" + network
	}
	return strings.TrimLeft(name[max(0, len(name)-maxName):], "-.")
}

// entryOf makes the entry of a proxy.
func entryOf(group *config.Object, p *model.Proxy) *networkingv1.WorkloadEntry {
	g := &group.Value.(*networkingv1.WorkloadGroup).Spec
	spec := g.GetTemplate().DeepCopy()
	if spec == nil {
		spec = &networking.WorkloadEntry{}
	}
	spec.Address = p.IPs[0].String()
	spec.Labels = layered(spec.GetLabels(), g.GetMetadata().GetLabels(), p.Labels)
	delete(spec.Labels, model.LocalityLabel) // the locality has a field of its own
	if p.Locality != "" {
		spec.Locality = p.Locality
	}
	if network := p.Metadata[networkMetadata]; network != "" {
		spec.Network = network
	}
	isController := true
	e := &networkingv1.WorkloadEntry{
		TypeMeta: metav1.TypeMeta{Kind: "WorkloadEntry", APIVersion: entries().GroupVersion().String()},
		ObjectMeta: metav1.ObjectMeta{
			Name: entryName(group.Name, p), Namespace: group.Namespace, Labels: maps.Clone(spec.GetLabels()),
			Annotations: layered(g.GetMetadata().GetAnnotations(), map[string]string{groupAnnotation: group.Name}),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: group.Kind.GVK().GroupVersion().String(), Kind: group.Kind.Kind, Name: group.Name,
				UID: types.UID(group.UID), Controller: &isController}},
		},
	}
	if p.Probes {
		e.Annotations[model.HealthAnnotation] = "true"
	}
	spec.DeepCopyInto(&e.Spec)
	return e
}

// layered lays maps over each other, the last on top.
func layered(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// permitted reports why a proxy may not speak for an entry of this account.
func permitted(p *model.Proxy, account string) error {
	if account == "" {
		account = "default"
	}
	switch {
	case !p.Proven:
		return fmt.Errorf("a proxy that shows no certificate is not registered")
	case p.ServiceAccount != account:
		return fmt.Errorf("its certificate is of service account %q, the template's serviceAccount is %q", p.ServiceAccount, account)
	}
	return nil
}

// withHealth returns a status with what is said of health, nil to say nothing, and whether it is another one.
func withHealth(status map[string]any, r *report, now time.Time) (next map[string]any, other bool) {
	next = maps.Clone(status)
	if next == nil {
		next = map[string]any{}
	}
	old, _ := status["conditions"].([]any)
	var conditions []any
	var was map[string]any
	for _, c := range old {
		if m, _ := c.(map[string]any); m["type"] == model.ConditionHealthy {
			was = m
			continue
		}
		conditions = append(conditions, c)
	}
	if r == nil {
		next["conditions"] = conditions
		return next, was != nil
	}
	is := map[string]any{"type": model.ConditionHealthy, "status": "True", "lastProbeTime": r.at.UTC().Format(time.RFC3339)}
	if r.trouble != "" {
		is["status"], is["reason"], is["message"] = "False", "Unhealthy", r.trouble
	}
	is["lastTransitionTime"] = now.UTC().Format(time.RFC3339)
	if was["status"] == is["status"] && was["lastTransitionTime"] != nil {
		is["lastTransitionTime"] = was["lastTransitionTime"]
	}
	next["conditions"] = append(conditions, is)
	return next, was["status"] != is["status"] || was["message"] != is["message"]
}

// entries is the resource of WorkloadEntries.
func entries() schema.GroupVersionResource {
	k, _ := kind.Named("WorkloadEntry")
	return k.GVR()
}
