package api

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/local/api/store"
)

// A Rejection is a document that could not be applied. People see it where they
// look for the object: in the STATUS column of `malla get`. Each is an object of
// the kind Refusal besides, so that one whose kind is not known, or that could not
// be read at all, shows in `malla get refusals` and `malla get all`.
type Rejection struct {
	Group, Kind     string // as they were written; "" if the document could not be read
	Namespace, Name string
	Source          string // "file:line"
	Message         string // what is wrong, without Source
	Text            string // the document as JSON; "" if it could not be read
}

type rejections struct {
	mu      sync.Mutex
	list    []Rejection
	before  map[Rejection]string // what was applied last to the object when this was first refused
	nowhere []Rejection          // those of no kind that is here
	hinted  string               // the last hint that was given
}

// refusals is the key of the kind Refusal.
const refusals = "refusals.malla.dev"

// SetRejections makes list all that is refused. Of several for one object the
// last shows beside it.
func (s *Server) SetRejections(list []Rejection) error {
	var nowhere []Rejection
	for _, r := range list {
		if _, known := kind.ByGK(schema.GroupKind{Group: r.Group, Kind: r.Kind}); !known {
			nowhere = append(nowhere, r)
		}
	}
	s.reject.mu.Lock()
	defer s.reject.mu.Unlock()
	before := make(map[Rejection]string, len(list))
	for _, r := range list {
		was, known := s.reject.before[r]
		if !known {
			was = s.appliedTo(r)
		}
		before[r] = was
	}
	s.reject.list, s.reject.before, s.reject.nowhere = list, before, nowhere
	return s.putRefusals(list)
}

// appliedTo is what was applied last to the object that r is about, "" if there is none.
func (s *Server) appliedTo(r Rejection) string {
	res := s.kinds.byGK[schema.GroupKind{Group: r.Group, Kind: r.Kind}]
	if res == nil {
		return ""
	}
	o := s.store.Get(store.Key{Resource: res.key, Namespace: r.Namespace, Name: r.Name})
	if o == nil {
		return ""
	}
	return o.Value.GetAnnotations()[lastApplied]
}

// newest reports whether r is still the newest that was said of o: not if something was applied since (`malla apply -f` of
// the mended text), nor if what r says is what is in force (the same text stands in two files, or was applied before it was saved).
func (r *rejections) newest(o *store.Object, rejection Rejection) bool {
	now := o.Value.GetAnnotations()[lastApplied]
	r.mu.Lock()
	was, known := r.before[rejection]
	r.mu.Unlock()
	return now == "" || (!known || now == was) && !sameText(now, rejection.Text)
}

// sameText reports whether what was applied is the document, wherever it stood.
func sameText(applied, document string) bool {
	a, b := withoutNotes(applied), withoutNotes(document)
	return a != nil && reflect.DeepEqual(a, b)
}

// withoutNotes is the JSON of an object without what applying it writes into it; nil if it is none.
func withoutNotes(text string) map[string]any {
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(text), &u.Object); err != nil || u.Object == nil {
		return nil
	}
	annotations := u.GetAnnotations()
	delete(annotations, config.SourceAnnotation)
	delete(annotations, lastApplied)
	u.SetAnnotations(annotations) // none: without the field
	return u.Object
}

// putRefusals makes the objects of the kind Refusal those of list.
func (s *Server) putRefusals(list []Rejection) error {
	old, _ := s.store.List(refusals, "")
	stale := map[string]*store.Object{}
	for _, o := range old {
		stale[o.Key.Name] = o
	}
	used := map[string]bool{}
	for _, r := range list {
		name := refusalName(r.Source, used)
		spec := map[string]any{"group": r.Group, "kind": r.Kind, "namespace": r.Namespace, "name": r.Name, "source": r.Source}
		status := map[string]any{"message": "refused: " + r.told()}
		k := store.Key{Resource: refusals, Name: name}
		if o := stale[name]; o != nil {
			delete(stale, name)
			if reflect.DeepEqual(o.Value.Object["spec"], spec) && reflect.DeepEqual(o.Value.Object["status"], status) {
				continue
			}
			u := o.Value.DeepCopy()
			u.Object["spec"], u.Object["status"] = spec, status
			if _, err := s.store.Put(k, o.Version, u, nil); err != nil {
				return fmt.Errorf("note a refusal: %w", err)
			}
			continue
		}
		if err := s.put(k, map[string]any{"spec": spec, "status": status}); err != nil {
			return fmt.Errorf("note a refusal: %w", err)
		}
	}
	for _, o := range stale {
		if _, err := s.store.Delete(o.Key, o.Version, nil); err != nil {
			return fmt.Errorf("forget a refusal: %w", err)
		}
	}
	return nil
}

var notOfNames = regexp.MustCompile(`[^a-z0-9.]+`)

// refusalName makes a name of a place: rules.yaml-7 of dir/rules.yaml:7.
func refusalName(source string, used map[string]bool) string {
	name := strings.Trim(notOfNames.ReplaceAllString(strings.ToLower(filepath.Base(source)), "-"), "-.")
	if len(name) > 200 {
		name = strings.Trim(name[len(name)-200:], "-.")
	}
	if name == "" {
		name = "document"
	}
	unique := name
	for n := 2; used[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", name, n)
	}
	used[unique] = true
	return unique
}

// told is the message with its place.
func (r Rejection) told() string {
	if r.Source == "" {
		return r.Message
	}
	return r.Source + ": " + r.Message
}

// of returns the rejections of a kind, in a namespace or ("") in all.
func (r *rejections) of(res *resource, namespace string) []Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Rejection
	for _, have := range r.list {
		if have.Kind == res.Kind.Kind && have.Group == res.Group && (namespace == "" || have.Namespace == namespace) {
			out = append(out, have)
		}
	}
	return out
}

// one returns what is refused of the object called name.
func (r *rejections) one(res *resource, namespace, name string) (Rejection, bool) {
	for _, have := range r.of(res, namespace) {
		if have.Name == name {
			return have, true
		}
	}
	return Rejection{}, false
}

// hint names what no list of a kind shows, "" if there is nothing that was not said before.
func (r *rejections) hint() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := ""
	if len(r.nowhere) > 0 {
		first := r.nowhere[0]
		text = "refused, and in no list of a kind: " + first.Source + ": "
		if title := strings.TrimSpace(first.Kind + " " + first.Name); title != "" {
			text += title + ": "
		}
		text += first.Message
		if more := len(r.nowhere) - 1; more > 0 {
			text += fmt.Sprintf(" (and %d more)", more)
		}
		text += "; malla get refusals shows it again"
	}
	if text == r.hinted {
		return ""
	}
	r.hinted = text
	return text
}

// nobody is a row's object where there is none.
func (q *request) nobody(r *Rejection) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetAPIVersion(apiVersion(q.res.Group, q.version))
	u.SetKind(q.res.Kind.Kind)
	u.SetName(r.Name)
	if r.Name == "" {
		u.SetName("<none>")
	}
	u.SetNamespace(r.Namespace)
	return u
}
