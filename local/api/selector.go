package api

import (
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mallamesh/malla/local/api/store"
)

// A selector chooses objects of a list or watch.
type selector struct {
	labels labels.Selector // nil is everything
	fields []fields.Requirement
	name   string // of a watch of one object
}

func matchName(name string) *selector { return &selector{name: name} }

// selectable are the fields that field selectors may name, by resource, besides
// metadata.name and metadata.namespace: Kubernetes' own lists.
var selectable = map[string][]string{
	"pods": {"spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
		"spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"},
	"events": {"involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
		"involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
		"reason", "reportingComponent", "source", "type"},
	"namespaces":       {"status.phase"},
	"secrets":          {"type"},
	"services":         {"spec.clusterIP", "spec.type"},
	"replicasets.apps": {"status.replicas"},
	"jobs.batch":       {"status.successful"},
	"nodes":            {"spec.unschedulable"},
}

// selector reads labelSelector, fieldSelector and the name in the path.
func (q *request) selector() (*selector, error) {
	sel := &selector{name: q.name}
	if text := q.query.Get("labelSelector"); text != "" {
		l, err := labels.Parse(text)
		if err != nil {
			return nil, badRequest("unable to parse requirement: %v", err)
		}
		sel.labels = l
	}
	if text := q.query.Get("fieldSelector"); text != "" {
		f, err := fields.ParseSelector(text)
		if err != nil {
			return nil, badRequest("field selector: %v", err)
		}
		for _, r := range f.Requirements() {
			if !q.res.selectable(r.Field) {
				return nil, badRequest("field label not supported: %s", r.Field)
			}
			sel.fields = append(sel.fields, r)
		}
	}
	return sel, nil
}

func (res *resource) selectable(field string) bool {
	if field == "metadata.name" || field == "metadata.namespace" && res.Namespaced {
		return true
	}
	for _, f := range selectable[res.key] {
		if f == field {
			return true
		}
	}
	return false
}

func (s *selector) matches(o *store.Object) bool {
	if o == nil {
		return false
	}
	if s.name != "" && s.name != o.Key.Name {
		return false
	}
	if s.labels != nil && !s.labels.Matches(labels.Set(o.Value.GetLabels())) {
		return false
	}
	for _, r := range s.fields {
		equal := fieldText(o.Key.Resource, o.Value, r.Field) == r.Value
		if equal != (r.Operator != "!=") {
			return false
		}
	}
	return true
}

// fieldText is a field as field selectors compare it.
func fieldText(resource string, u *unstructured.Unstructured, path string) string {
	if resource == "events" {
		switch path {
		case "source":
			path = "source.component"
		case "reportingComponent":
			path = "reportingComponent"
		}
	}
	v, _, _ := unstructured.NestedFieldNoCopy(u.Object, splitDots(path)...)
	switch v := v.(type) {
	case nil:
		switch path {
		case "spec.hostNetwork", "spec.unschedulable":
			return "false"
		case "status.replicas":
			return "0"
		}
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	}
	return fmt.Sprint(v)
}
