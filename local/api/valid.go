package api

import (
	"fmt"
	"reflect"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// check refuses what would break the invariants of the API itself: names, labels,
// owners, fields that never change. What a spec means is for admitters to judge.
func (s *Server) check(c *change, was, u *unstructured.Unstructured) error {
	if c.subresource == "status" {
		return nil
	}
	errs := checkMeta(c.res, u)
	if was != nil {
		errs = append(errs, checkImmutable(c.res, was, u)...)
	}
	switch c.res.key {
	case "deployments.apps", "replicasets.apps":
		errs = append(errs, checkWorkload(u)...)
	case "services":
		errs = append(errs, checkService(u)...)
	case "pods":
		errs = append(errs, checkPodSpec(u, field.NewPath("spec"), "spec")...)
	case "configmaps", "secrets":
		errs = append(errs, checkData(u)...)
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Group: c.res.Group, Kind: c.res.Kind.Kind}, c.name, errs)
	}
	return nil
}

func checkMeta(res *resource, u *unstructured.Unstructured) field.ErrorList {
	path := field.NewPath("metadata")
	name := apivalidation.NameIsDNSSubdomain
	switch res.key {
	case "services":
		name = apivalidation.NameIsDNS1035Label
	case "namespaces":
		name = apivalidation.NameIsDNSLabel
	}
	var errs field.ErrorList
	if u.GetName() == "" {
		errs = append(errs, field.Required(path.Child("name"), "name or generateName is required"))
	} else {
		for _, why := range name(u.GetName(), false) {
			errs = append(errs, field.Invalid(path.Child("name"), u.GetName(), why))
		}
	}
	errs = append(errs, metavalidation.ValidateLabels(u.GetLabels(), path.Child("labels"))...)
	errs = append(errs, apivalidation.ValidateAnnotations(u.GetAnnotations(), path.Child("annotations"))...)
	errs = append(errs, apivalidation.ValidateFinalizers(u.GetFinalizers(), path.Child("finalizers"))...)
	for i, o := range u.GetOwnerReferences() {
		if o.APIVersion == "" || o.Kind == "" || o.Name == "" || o.UID == "" {
			errs = append(errs, field.Invalid(path.Child("ownerReferences").Index(i), o.Name, "want apiVersion, kind, name and uid"))
		}
	}
	return errs
}

// immutable fields, by resource. Once set they keep their value.
var immutable = map[string][]string{
	"deployments.apps": {"spec.selector"},
	"replicasets.apps": {"spec.selector"},
	"secrets":          {"type"},
	"gatewayclasses.gateway.networking.k8s.io": {"spec.controllerName"},
	"pods": {"spec.containers", "spec.volumes", "spec.serviceAccountName", "spec.restartPolicy", "spec.hostname", "spec.nodeName"},
}

func checkImmutable(res *resource, was, u *unstructured.Unstructured) field.ErrorList {
	var errs field.ErrorList
	for _, path := range immutable[res.key] {
		old, had, _ := unstructured.NestedFieldNoCopy(was.Object, splitDots(path)...)
		now, _, _ := unstructured.NestedFieldNoCopy(u.Object, splitDots(path)...)
		if res.key == "pods" && path == "spec.containers" {
			old, now = withoutImages(old), withoutImages(now)
		}
		if !had || old == "" || reflect.DeepEqual(old, now) {
			continue
		}
		errs = append(errs, field.Invalid(field.NewPath(strings.ReplaceAll(path, ".", ".")), brief(now), "field is immutable"))
	}
	if (res.key == "configmaps" || res.key == "secrets") && was.Object["immutable"] == true {
		for _, f := range []string{"data", "binaryData", "immutable"} {
			if !reflect.DeepEqual(was.Object[f], u.Object[f]) {
				errs = append(errs, field.Forbidden(field.NewPath(f), "field is immutable when `immutable` is set"))
			}
		}
	}
	return errs
}

// withoutImages: a running pod's images may change, nothing else of its containers.
func withoutImages(v any) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	out := make([]any, len(list))
	for i, c := range list {
		m, ok := c.(map[string]any)
		if !ok {
			return v
		}
		m = shallow(m)
		delete(m, "image")
		delete(m, "resources")
		out[i] = m
	}
	return out
}

func brief(v any) string {
	text := fmt.Sprint(v)
	if len(text) > 120 {
		text = text[:120] + "..."
	}
	return text
}

// checkWorkload: a Deployment or ReplicaSet must select the pods that it makes.
func checkWorkload(u *unstructured.Unstructured) field.ErrorList {
	spec := field.NewPath("spec")
	raw, found, _ := unstructured.NestedMap(u.Object, "spec", "selector")
	if !found || len(raw) == 0 {
		return field.ErrorList{field.Required(spec.Child("selector"), "")}
	}
	var errs field.ErrorList
	if n, ok, _ := unstructured.NestedInt64(u.Object, "spec", "replicas"); ok && n < 0 {
		errs = append(errs, field.Invalid(spec.Child("replicas"), n, "must be greater than or equal to 0"))
	}
	sel := &metav1.LabelSelector{}
	if err := fromMap(raw, sel); err != nil {
		return append(errs, field.Invalid(spec.Child("selector"), brief(raw), err.Error()))
	}
	selector, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return append(errs, field.Invalid(spec.Child("selector"), brief(raw), err.Error()))
	}
	tmpl, _, _ := unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "labels")
	if !selector.Matches(labels.Set(tmpl)) {
		errs = append(errs, field.Invalid(spec.Child("template", "metadata", "labels"), tmpl, "`selector` does not match template `labels`"))
	}
	return append(errs, checkPodSpec(u, spec.Child("template", "spec"), "spec", "template", "spec")...)
}

// checkPodSpec: containers have names and images, names are unique, mounts name volumes.
func checkPodSpec(u *unstructured.Unstructured, path *field.Path, where ...string) field.ErrorList {
	spec, _, _ := unstructured.NestedMap(u.Object, where...)
	containers, _ := spec["containers"].([]any)
	if len(containers) == 0 {
		return field.ErrorList{field.Required(path.Child("containers"), "")}
	}
	var errs field.ErrorList
	volumes := map[string]bool{}
	if list, ok := spec["volumes"].([]any); ok {
		for i, v := range list {
			name := text(v, "name")
			if name == "" {
				errs = append(errs, field.Required(path.Child("volumes").Index(i).Child("name"), ""))
			} else if volumes[name] {
				errs = append(errs, field.Duplicate(path.Child("volumes").Index(i).Child("name"), name))
			}
			volumes[name] = true
		}
	}
	names := map[string]bool{}
	for _, part := range []string{"initContainers", "containers"} {
		list, _ := spec[part].([]any)
		for i, c := range list {
			at := path.Child(part).Index(i)
			name := text(c, "name")
			for _, why := range apivalidation.NameIsDNSLabel(name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), name, why))
			}
			if names[name] {
				errs = append(errs, field.Duplicate(at.Child("name"), name))
			}
			names[name] = true
			if text(c, "image") == "" {
				errs = append(errs, field.Required(at.Child("image"), ""))
			}
			mounts, _, _ := unstructured.NestedSlice(asMap(c), "volumeMounts")
			for j, m := range mounts {
				if v := text(m, "name"); !volumes[v] {
					errs = append(errs, field.NotFound(at.Child("volumeMounts").Index(j).Child("name"), v))
				}
				if text(m, "mountPath") == "" {
					errs = append(errs, field.Required(at.Child("volumeMounts").Index(j).Child("mountPath"), ""))
				}
			}
		}
	}
	return errs
}

func checkService(u *unstructured.Unstructured) field.ErrorList {
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	path := field.NewPath("spec")
	var errs field.ErrorList
	typ := text(spec, "type")
	switch typ {
	case "ClusterIP", "NodePort", "LoadBalancer":
	case "ExternalName":
		if text(spec, "externalName") == "" {
			errs = append(errs, field.Required(path.Child("externalName"), ""))
		}
		return errs
	default:
		return append(errs, field.NotSupported(path.Child("type"), typ, []string{"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}))
	}
	ports, _ := spec["ports"].([]any)
	if len(ports) == 0 && text(spec, "clusterIP") != "None" {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	names, numbers := map[string]bool{}, map[string]bool{}
	for i, p := range ports {
		at := path.Child("ports").Index(i)
		m := asMap(p)
		name := text(m, "name")
		if name == "" && len(ports) > 1 {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else if name != "" && names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names[name] = true
		n, _ := m["port"].(int64)
		if n < 1 || n > 65535 {
			errs = append(errs, field.Invalid(at.Child("port"), n, "must be between 1 and 65535, inclusive"))
		}
		id := fmt.Sprintf("%s/%d", text(m, "protocol"), n)
		if numbers[id] {
			errs = append(errs, field.Duplicate(at, id))
		}
		numbers[id] = true
	}
	return errs
}

// maxData is Kubernetes' bound on a ConfigMap's and a Secret's data.
const maxData = 1 << 20

func checkData(u *unstructured.Unstructured) field.ErrorList {
	var errs field.ErrorList
	total := 0
	for _, part := range []string{"data", "binaryData"} {
		for k, v := range asMap(u.Object[part]) {
			for _, why := range validKey(k) {
				errs = append(errs, field.Invalid(field.NewPath(part).Key(k), k, why))
			}
			total += len(k)
			if t, ok := v.(string); ok {
				total += len(t)
			}
		}
	}
	if total > maxData*4/3 { // base64 of Secrets
		errs = append(errs, field.TooLong(field.NewPath(""), "", maxData))
	}
	return errs
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func text(v any, name string) string {
	t, _ := asMap(v)[name].(string)
	return t
}
