package kind

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A Refusal names a kind that people may expect and that is not there, in any version.
type Refusal struct {
	Group, Kind string // an empty Kind stands for all others of the group
	Why         string // what to do instead, or that it is not built yet
}

// Refusals lists the kinds that are refused with a reason of their own. A kind
// that is neither here nor in [All] is refused as unknown.
var Refusals = []Refusal{
	{"", "ReplicationController", "not supported; use a Deployment"},
	{"", "PersistentVolume", whyNoClaim},
	{"", "PersistentVolumeClaim", whyNoClaim},
	{"", "Node", "not supported: there is one machine, and pods are its processes"},
	{"storage.k8s.io", "", whyNoClaim},
	{"security.istio.io", "AuthorizationPolicy", whyNotYet + ": accepting it would look like protection"},
	{"security.istio.io", "RequestAuthentication", whyNotYet + ": accepting it would look like protection"},
	{"telemetry.istio.io", "", whyNotYet},
	{"extensions.istio.io", "", whyNotYet},
	{"gateway.networking.x-k8s.io", "XListenerSet", "it has become ListenerSet of gateway.networking.k8s.io/v1"},
	{"gateway.networking.x-k8s.io", "", "the experiments of Gateway API are " + whyNotYet},
	{"split.smi-spec.io", "", "SMI is not supported yet; use a VirtualService"},
	{"specs.smi-spec.io", "", "SMI is not supported yet; use a VirtualService"},
	{"access.smi-spec.io", "", "SMI is not supported yet"},
	{"policy.openservicemesh.io", "", whyNotYet},
	{"config.openservicemesh.io", "", whyNotYet},
	{"linkerd.io", "", "not supported yet; use a VirtualService"},
	{"policy.linkerd.io", "", "not supported yet; use a VirtualService"},
	{"kustomize.config.k8s.io", "", "not an object: name the directory that holds it, and it is built"},
}

const whyNotYet = "not supported yet"

const whyNoClaim = "not needed: a claim is a directory of this machine, which is there when a pod first mounts it; leave the object out"

// RefusedBecause returns why a kind is refused, and whether it has a reason of its own.
func RefusedBecause(gk schema.GroupKind) (why string, ok bool) {
	for _, r := range Refusals {
		if r.Group == gk.Group && (r.Kind == gk.Kind || r.Kind == "") {
			return r.Why, true
		}
	}
	return "", false
}

// shortRefused are Kubernetes' short names of kinds that are refused.
var shortRefused = map[string]string{
	"rc": "replicationcontrollers",
	"pv": "persistentvolumes", "pvc": "persistentvolumeclaims", "no": "nodes", "ra": "requestauthentications", "ap": "authorizationpolicies",
}

// RefusedResource returns the refused kind that a command calls by the given word, as
// statefulsets, sts or StatefulSet.apps, and whether there is one.
func RefusedResource(word string) (Refusal, bool) {
	name, group, _ := strings.Cut(strings.ToLower(word), ".")
	if long, ok := shortRefused[name]; ok {
		name = long
	}
	for _, r := range Refusals {
		if r.Kind == "" || group != "" && group != r.Group && !strings.HasSuffix(group, "."+r.Group) {
			continue
		}
		plural, singular := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: r.Group, Kind: r.Kind})
		if name == plural.Resource || name == singular.Resource {
			return r, true
		}
	}
	return Refusal{}, false
}
