// Package validate tells the author of an object what is wrong with it.
//
// An object is compared with the Go type of its kind: what is not a field of it
// is an error with its path, as is a value of another type. Then come the rules
// of Kubernetes and Istio that a type cannot state, and the table of kinds: what
// malla accepts without effect becomes a [Notice], what it does not support an
// error. Nothing is dropped in silence, and all errors are found at once.
//
// [Object] looks at one object alone and is cheap enough for admission. Whether
// the names it mentions exist is a question for analysis.
package validate

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/crd"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/strict"
)

// Positions returns where a field was written, as file:line, "" if that is not
// known. The method Pos of load.Doc is one. Nil knows nothing.
type Positions func(at *field.Path) string

// A Result is what was found in one object.
type Result struct {
	Errors  field.List // in the order of their positions, else of their fields
	Notices []Notice
}

// A Notice says that something is accepted without effect.
type Notice = strict.Notice

// Object checks one object of any kind and version. It does not change it.
func Object(u *unstructured.Unstructured, pos Positions) Result {
	c := &checker{}
	c.check(u)
	name := u.GetKind() + " " + u.GetName()
	if ns := u.GetNamespace(); ns != "" && u.GetName() != "" {
		name = u.GetKind() + " " + ns + "/" + u.GetName()
	}
	if u.GetKind() == "" {
		name = "object " + u.GetName()
	}
	c.Errs.In(strings.TrimSpace(name))
	if pos != nil {
		for _, e := range c.Errs {
			e.Pos = pos(e.At)
		}
		for i := range c.Notices {
			c.Notices[i].Pos = pos(c.Notices[i].At)
		}
		slices.SortStableFunc(c.Errs, func(a, b *field.Error) int { return comparePos(a.Pos, b.Pos) })
		slices.SortStableFunc(c.Notices, func(a, b Notice) int { return comparePos(a.Pos, b.Pos) })
	}
	return Result{Errors: c.Errs, Notices: c.Notices}
}

func comparePos(a, b string) int {
	fileA, lineA, _ := cutLast(a)
	fileB, lineB, _ := cutLast(b)
	return cmp.Or(cmp.Compare(fileA, fileB), cmp.Compare(len(lineA), len(lineB)), cmp.Compare(lineA, lineB))
}

func cutLast(pos string) (file, line string, ok bool) {
	i := strings.LastIndexByte(pos, ':')
	if i < 0 {
		return pos, "", false
	}
	return pos[:i], pos[i+1:], true
}

// A checker looks at one object.
type checker struct{ strict.Checker }

func (c *checker) check(u *unstructured.Unstructured) {
	gvk := u.GroupVersionKind()
	if _, ok := u.Object["kind"].(string); !ok || gvk.Kind == "" {
		c.Errs.Addf(field.At("kind"), "missing; want the kind of the object, for example Deployment")
	}
	if s, ok := u.Object["apiVersion"].(string); !ok || s == "" {
		c.Errs.Addf(field.At("apiVersion"), "missing; want the group and version of the kind, for example apps/v1")
	}
	if len(c.Errs) > 0 {
		return
	}
	k, ok := kind.ByGVK(gvk)
	if !ok {
		c.unknownKind(u)
		return
	}
	c.metadata(u, k)
	if k.Class == kind.Ignored {
		c.Notices = append(c.Notices, Notice{Why: k.Why})
		return
	}
	p := planOf(k)
	pruned := make(map[string]any, len(u.Object))
	for _, name := range sortedKeys(u.Object) {
		if name == "apiVersion" || name == "kind" || name == "metadata" {
			continue
		}
		if name == "status" { // it belongs to controllers and is never taken from a file
			if _, ok := u.Object[name].(map[string]any); !ok && u.Object[name] != nil {
				c.Errs.Addf(field.At(name), "found %v, want an object, or nothing: controllers write it", u.Object[name])
			}
			continue
		}
		f := p.Field(name)
		if f == nil {
			c.Unknown(nil, name, p.Fields())
			continue
		}
		if v, ok := c.Value(u.Object[name], f, field.At(name)); ok {
			pruned[name] = v
		}
	}
	c.semantics(k, u, pruned)
}

var plans sync.Map // *kind.Kind -> *strict.Plan, made at first use

func planOf(k *kind.Kind) *strict.Plan {
	if p, ok := plans.Load(k); ok {
		return p.(*strict.Plan)
	}
	p, _ := plans.LoadOrStore(k, strict.Type(reflect.TypeOf(k.New()).Elem(), k.Fields))
	return p.(*strict.Plan)
}

// semantics checks the rules of the kind on what is left of the object.
func (c *checker) semantics(k *kind.Kind, u *unstructured.Unstructured, pruned map[string]any) {
	r := &ruler{bad: c.Bad}
	defer c.take(r)
	r.annotations(field.At("metadata"), u.GetAnnotations(), u.GetLabels())
	if d := crd.Of(k); d != nil {
		complete := runtime.DeepCopyJSON(pruned)
		d.Complete(complete)
		r.errs = append(r.errs, d.Check(complete)...)
	}
	check, ok := rules[k.Group+"/"+k.Kind]
	if !ok {
		return
	}
	pruned["apiVersion"], pruned["kind"], pruned["metadata"] = u.GetAPIVersion(), u.GetKind(), plainMetadata(u)
	value, err := config.Typed(k, &unstructured.Unstructured{Object: pruned})
	if err != nil {
		if len(c.Errs) == 0 {
			c.Errs.Addf(nil, "%v", err)
		}
		return
	}
	check(r, value)
}

// take adds what rules found, but for what was said already, more precisely.
func (c *checker) take(r *ruler) {
	for _, e := range r.errs {
		if !c.Bad(e.At) {
			c.Errs = append(c.Errs, e)
		}
	}
	c.Notices = append(c.Notices, r.notices...)
}

// plainMetadata is what rules may need of the metadata.
func plainMetadata(u *unstructured.Unstructured) map[string]any {
	m := map[string]any{"name": u.GetName(), "namespace": u.GetNamespace()}
	for name, values := range map[string]map[string]string{"labels": u.GetLabels(), "annotations": u.GetAnnotations()} {
		out := make(map[string]any, len(values))
		for k, v := range values {
			out[k] = v
		}
		m[name] = out
	}
	return m
}

func (c *checker) unknownKind(u *unstructured.Unstructured) {
	gvk := u.GroupVersionKind()
	if why, ok := kind.RefusedBecause(gvk.GroupKind()); ok {
		c.Errs.Addf(field.At("kind"), "%s of %s: %s", gvk.Kind, u.GetAPIVersion(), why)
		return
	}
	var names []string
	for _, k := range kind.All {
		if k.Kind == gvk.Kind {
			for _, v := range k.Versions {
				names = append(names, strings.TrimPrefix(k.Group+"/"+v, "/"))
			}
		}
	}
	if len(names) > 0 {
		c.Errs.Addf(field.At("apiVersion"), "found %q, want %s for the kind %s", u.GetAPIVersion(), oneOf(names), gvk.Kind)
		return
	}
	for _, k := range kind.All {
		names = append(names, k.Kind)
	}
	for _, r := range kind.Refusals {
		names = append(names, r.Kind)
	}
	c.Errs.Addf(field.At("kind"), "unknown kind %q%s", gvk.Kind, field.Suggest(gvk.Kind, names))
}

// problem is what one of Kubernetes' checks of names says, without its pattern.
func problem(text string) string {
	text, _, _ = strings.Cut(text, " (e.g.")
	text, _, _ = strings.Cut(text, " (regex")
	return text
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// oneOf writes the values as an alternative.
func oneOf(values []string) string {
	if len(values) < 2 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}

// A ruler gathers what the rules of one kind find.
type ruler struct {
	errs    field.List
	notices []Notice
	bad     func(*field.Path) bool // whether something was found wrong at the place before
}

func (r *ruler) errorf(at *field.Path, format string, args ...any) { r.errs.Addf(at, format, args...) }

func (r *ruler) notice(at *field.Path, format string, args ...any) {
	r.notices = append(r.notices, Notice{At: at, Why: fmt.Sprintf(format, args...)})
}
