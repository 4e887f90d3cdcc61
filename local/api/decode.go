package api

import (
	"encoding/json"
	"mime"
	"reflect"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/crd"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/strict"
	"github.com/mallamesh/malla/local/api/defaults"
)

// What to do about fields that a kind does not have, and fields given twice.
const (
	validateStrict = "Strict"
	validateWarn   = "Warn"
	validateIgnore = "Ignore"
)

// validation reads the fieldValidation parameter. Without it Kubernetes warns;
// so does malla: nothing is dropped in silence.
func (q *request) validation() (string, error) {
	v := q.query.Get("fieldValidation")
	switch v {
	case "":
		return validateWarn, nil
	case validateStrict, validateWarn, validateIgnore:
		return v, nil
	}
	return "", badRequest("fieldValidation: %q, want Strict, Warn or Ignore", v)
}

// jsonBody reads a body that holds a document, in JSON or YAML, as JSON.
func jsonBody(q *request) ([]byte, error) {
	raw, err := readBody(q.Request)
	if err != nil {
		return nil, err
	}
	typ, _, _ := mime.ParseMediaType(q.Header.Get("Content-Type"))
	switch typ {
	case "", "application/json", "text/plain":
		return raw, nil
	case "application/yaml", "application/x-yaml", "text/yaml":
		out, err := yaml.YAMLToJSONStrict(raw)
		if err != nil {
			return nil, badRequest("%v", err)
		}
		return out, nil
	}
	if typ == runtime.ContentTypeProtobuf {
		return protobufBody(raw)
	}
	return nil, unsupportedMedia(typ, "application/json", "application/yaml", runtime.ContentTypeProtobuf)
}

// protobufBody turns what typed clients send into JSON. They choose protobuf for
// Kubernetes' own kinds without asking what a server likes.
func protobufBody(raw []byte) ([]byte, error) {
	o, gvk, err := scheme.Codecs.UniversalDeserializer().Decode(raw, nil, nil)
	if err != nil {
		return nil, badRequest("the body is not a document in protobuf: %v", err)
	}
	o.GetObjectKind().SetGroupVersionKind(*gvk)
	return json.Marshal(o)
}

// document decodes a JSON document of the request's kind. Doubtful fields are
// refused or warned of, as the client asked.
func (q *request) document(raw []byte) (*unstructured.Unstructured, error) {
	mode, err := q.validation()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	doubts, err := kjson.UnmarshalStrict(raw, &u.Object)
	if err != nil {
		return nil, badRequest("the document is not valid JSON: %v", err)
	}
	if u.Object == nil {
		return nil, badRequest("the document is empty, want a %s", q.res.Kind.Kind)
	}
	if err := q.checkType(u); err != nil {
		return nil, err
	}
	u.SetAPIVersion(apiVersion(q.res.Group, q.stored()))
	u.SetKind(q.res.Kind.Kind)
	more, err := q.res.check(raw)
	if err != nil {
		return nil, badRequest("%s in version %q cannot be handled as a %s: %v", titled(u), q.version, q.res.Kind.Kind, err)
	}
	return u, q.doubt(mode, titled(u), append(doubts, more...))
}

// titled is an object as errors name it: whoever sends many at once looks for one of them.
func titled(u *unstructured.Unstructured) string {
	name := u.GetName()
	if ns := u.GetNamespace(); ns != "" && name != "" {
		name = ns + "/" + name
	}
	return strings.TrimSpace(u.GetKind() + " " + name)
}

// doubt refuses or tells of fields that have no effect.
func (q *request) doubt(mode, title string, doubts []error) error {
	if len(doubts) == 0 || mode == validateIgnore {
		return nil
	}
	texts := make([]string, 0, len(doubts))
	seen := map[string]bool{}
	for _, d := range doubts {
		if !seen[d.Error()] {
			seen[d.Error()] = true
			texts = append(texts, d.Error())
		}
	}
	if mode == validateStrict {
		return badRequest("%s: strict decoding error: %s", title, strings.Join(texts, ", "))
	}
	q.warnings.add(texts...)
	return nil
}

func (q *request) checkType(u *unstructured.Unstructured) error {
	want := schema.GroupVersionKind{Group: q.res.Group, Version: q.version, Kind: q.res.Kind.Kind}
	if v := u.GetAPIVersion(); v != "" {
		gv, err := schema.ParseGroupVersion(v)
		if err != nil || gv.Group != want.Group || !q.res.Serves(gv.Version) {
			return badRequest("the API version in the data (%s) does not match the expected API version (%s)", v, want.GroupVersion())
		}
	}
	if k := u.GetKind(); k != "" && k != want.Kind {
		return badRequest("the kind in the data (%s) does not match the expected kind (%s)", k, want.Kind)
	}
	return nil
}

// check decodes raw into the kind's Go type, to find fields that it lacks and
// values of the wrong type.
func (res *resource) check(raw []byte) (doubts []error, err error) {
	if res.Class == kind.Ignored || res.Class == kind.Refused {
		return nil, nil
	}
	into := res.New()
	if res.native {
		if doubts, err = kjson.UnmarshalStrict(raw, into); err == nil && len(doubts) == 0 {
			return nil, nil
		}
	} else {
		err = json.Unmarshal(raw, into)
	}
	// Decoders end at the first value that they cannot take, and speak of Go's types.
	better, why := res.unknown(raw, err)
	if why == nil && len(better) < len(doubts) {
		return doubts, nil // twice the same field, which only a decoder sees
	}
	return better, why
}

// unknown finds the fields that a kind does not have, of whatever decoder (Istio's
// skip them). If the type could not take the document at all (err), it says why in
// terms of fields, all of them.
func (res *resource) unknown(raw []byte, err error) ([]error, error) {
	var doc map[string]any
	if e := kjson.UnmarshalCaseSensitivePreserveInts(raw, &doc); e != nil {
		return nil, e
	}
	var c strict.Checker
	plan := res.plan()
	for name, v := range doc {
		switch name {
		case "apiVersion", "kind", "metadata", "status":
			continue
		}
		if f := plan.Field(name); f != nil {
			c.Value(v, f, field.At(name))
		} else {
			c.Unknown(nil, name, plan.Fields())
		}
	}
	if err != nil {
		if e := c.Errs.Err(); e != nil {
			return nil, e
		}
		return nil, err
	}
	var doubts []error
	for _, e := range c.Errs {
		doubts = append(doubts, e)
	}
	return doubts, nil
}

var plans sync.Map // *kind.Kind -> *strict.Plan, made at first use

func (res *resource) plan() *strict.Plan {
	if p, ok := plans.Load(res.Kind); ok {
		return p.(*strict.Plan)
	}
	p, _ := plans.LoadOrStore(res.Kind, strict.Type(reflect.TypeOf(res.New()).Elem(), nil))
	return p.(*strict.Plan)
}

// normal gives a native object the form in which it is stored: only fields of
// its type, and Kubernetes' defaults. Others keep the fields that people wrote, and
// get the defaults of their definition.
func (res *resource) normal(u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if !res.native {
		if d := crd.Of(res.Kind); d != nil {
			d.Complete(u.Object)
		}
		return u, nil
	}
	typed := res.New()
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return nil, err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, typed); err != nil {
		return nil, badRequest("%s cannot be handled: %v", res.Kind.Kind, err)
	}
	defaults.Set(typed)
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return nil, err
	}
	n := &unstructured.Unstructured{Object: out}
	n.SetAPIVersion(apiVersion(res.Group, res.Versions[0]))
	n.SetKind(res.Kind.Kind)
	return n, nil
}

func isStatusError(err error) bool {
	_, ok := err.(apierrors.APIStatus)
	return ok
}

func splitDots(path string) []string { return strings.Split(path, ".") }
