package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/local/api/store"
)

// raw returns o's JSON in the API version that the client speaks. Versions of a
// kind have the same fields, and Go's encoder sorts keys, so apiVersion comes first.
func (q *request) raw(o *store.Object) []byte {
	if q.version == q.stored() {
		return o.JSON
	}
	have := []byte(`{"apiVersion":"` + apiVersion(q.res.Group, q.stored()) + `"`)
	want := []byte(`{"apiVersion":"` + apiVersion(q.res.Group, q.version) + `"`)
	if bytes.HasPrefix(o.JSON, have) {
		return append(want, o.JSON[len(have):]...)
	}
	raw, err := json.Marshal(q.in(o.Value).Object)
	if err != nil {
		return o.JSON // it was encoded before, so this cannot be
	}
	return raw
}

func (q *request) key(name string) store.Key {
	return store.Key{Resource: q.res.key, Namespace: q.namespace, Name: name}
}

func (s *Server) get(w http.ResponseWriter, q *request) error {
	o := s.store.Get(q.key(q.name))
	form := tableForm(q.Request)
	if form != nil {
		rows := s.objects(q, []*store.Object{o}, nil)
		if o == nil {
			rows = s.rejected(q, nil, matchName(q.name))
		}
		if len(rows) == 0 {
			return notFound(q.res, q.name)
		}
		return s.writeTable(w, q, form, rows, rows[0].version())
	}
	refused, wrong := s.reject.one(q.res, q.namespace, q.name)
	switch {
	case o == nil && wrong:
		return notFoundBecause(q.res, q.name, "its document was refused: "+refused.told())
	case o == nil:
		return notFound(q.res, q.name)
	case wrong && s.reject.newest(o, refused) && q.user.admin && partialForm(q.Request) == "":
		q.warnings.add(about(q.res, q.namespace, q.name, []string{"an older version is in force; the newest was refused: " + refused.told()})...)
	}
	return s.writeObject(w, q, http.StatusOK, o)
}

// writeObject answers with one object, as the client wants to see it.
func (s *Server) writeObject(w http.ResponseWriter, q *request, code int, o *store.Object) error {
	s.tellUnsaved(q)
	if form := tableForm(q.Request); form != nil {
		return s.writeTable(w, q, form, s.objects(q, []*store.Object{o}, nil), o.Version)
	}
	q.warnings.write(w.Header())
	if form := partialForm(q.Request); form != "" {
		writeRaw(w, code, partial(o.JSON, "PartialObjectMetadata"))
		return nil
	}
	writeRaw(w, code, q.raw(o))
	return nil
}

func (s *Server) list(w http.ResponseWriter, q *request) error {
	match, err := q.selector()
	if err != nil {
		return err
	}
	if err := q.checkPaging(); err != nil {
		return err
	}
	all, version := s.store.List(q.res.key, q.namespace)
	if err := q.checkListVersion(version); err != nil {
		return err
	}
	objects := make([]*store.Object, 0, len(all))
	for _, o := range all {
		if match.matches(o) {
			objects = append(objects, o)
		}
	}
	if form := tableForm(q.Request); form != nil {
		rows := s.objects(q, objects, nil)
		if hint := s.reject.hint(); hint != "" && q.res.key != refusals {
			q.warnings.add(hint)
		}
		return s.writeTable(w, q, form, s.rejected(q, rows, match), version)
	}
	writeRaw(w, http.StatusOK, q.listBody(objects, version))
	return nil
}

// checkPaging judges what is asked of pages. Every list comes whole, as the API allows whatever limit says; so nobody has been given a
// token to continue with, and who took one for good would take the whole for the rest.
func (q *request) checkPaging() error {
	if v := q.query.Get("limit"); v != "" {
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			return badRequest("limit: found %q, want a number", v)
		}
	}
	if q.query.Get("continue") != "" {
		return badRequest("continue key is not valid: lists come whole here, and none is given out")
	}
	return nil
}

// listBody puts the list together from the objects' own JSON.
func (q *request) listBody(objects []*store.Object, version uint64) []byte {
	size := 256
	for _, o := range objects {
		size += len(o.JSON) + 1
	}
	meta := partialForm(q.Request) != ""
	var b bytes.Buffer
	b.Grow(size)
	if meta {
		b.WriteString(`{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1"`)
	} else {
		fmt.Fprintf(&b, `{"kind":%q,"apiVersion":%q`, q.res.Kind.Kind+"List", apiVersion(q.res.Group, q.version))
	}
	fmt.Fprintf(&b, `,"metadata":{"resourceVersion":"%d"},"items":[`, version)
	for i, o := range objects {
		if i > 0 {
			b.WriteByte(',')
		}
		if meta {
			b.Write(partial(o.JSON, "PartialObjectMetadata"))
		} else {
			b.Write(q.raw(o))
		}
	}
	b.WriteString("]}")
	return b.Bytes()
}

// checkListVersion refuses lists at versions that this server cannot show: it
// has the present only, which satisfies every question but an exact one.
func (q *request) checkListVersion(now uint64) error {
	rv, match := q.query.Get("resourceVersion"), q.query.Get("resourceVersionMatch")
	if rv == "" || rv == "0" {
		return nil
	}
	v, err := strconv.ParseUint(rv, 10, 64)
	if err != nil {
		return badRequest("resourceVersion: %q is not a version of this server", rv)
	}
	if v > now {
		return tooNew(v, now)
	}
	if match == string(metav1.ResourceVersionMatchExact) && v != now {
		return expired(v)
	}
	return nil
}

// in returns the request's object in the API version that the client speaks.
func (q *request) in(u *unstructured.Unstructured) *unstructured.Unstructured {
	if q.version != q.stored() {
		u = &unstructured.Unstructured{Object: shallow(u.Object)}
		u.SetAPIVersion(apiVersion(q.res.Group, q.version))
	}
	return u
}

func shallow(m map[string]any) map[string]any {
	c := make(map[string]any, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}
