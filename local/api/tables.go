package api

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/local/api/store"
	"github.com/mallamesh/malla/local/api/table"
)

// A tableShape is how a client wants a table.
type tableShape struct {
	include metav1.IncludeObjectPolicy
}

// accepted calls f with the media types that a client accepts, in its order,
// until f returns true.
func accepted(r *http.Request, f func(typ string, params map[string]string) bool) {
	for _, h := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(h, ",") {
			typ, params, err := mime.ParseMediaType(strings.TrimSpace(part))
			if err == nil && f(typ, params) {
				return
			}
		}
	}
}

// form returns what the client's most wanted form in JSON is: "" plain, or "Table",
// "PartialObjectMetadata", "PartialObjectMetadataList".
func form(r *http.Request) string {
	as := ""
	accepted(r, func(typ string, params map[string]string) bool {
		if typ != "application/json" && typ != "*/*" && typ != "application/*" {
			return false // protobuf, CBOR: answered in JSON, which every client knows
		}
		if g := params["g"]; params["as"] != "" && (g != "meta.k8s.io" || params["v"] != "v1") {
			return false
		}
		as = params["as"]
		return true
	})
	return as
}

func tableForm(r *http.Request) *tableShape {
	if form(r) != "Table" {
		return nil
	}
	shape := &tableShape{include: metav1.IncludeMetadata}
	if v := r.URL.Query().Get("includeObject"); v != "" {
		shape.include = metav1.IncludeObjectPolicy(v)
	}
	return shape
}

func partialForm(r *http.Request) string {
	if f := form(r); strings.HasPrefix(f, "PartialObjectMetadata") {
		return f
	}
	return ""
}

// partial cuts an object down to its metadata.
func partial(raw []byte, kind string) []byte {
	var o struct {
		Metadata json.RawMessage `json:"metadata"`
	}
	if json.Unmarshal(raw, &o) != nil {
		o.Metadata = []byte("{}")
	}
	out := make([]byte, 0, len(o.Metadata)+80)
	out = append(out, `{"kind":"`+kind+`","apiVersion":"meta.k8s.io/v1","metadata":`...)
	out = append(out, o.Metadata...)
	return append(out, '}')
}

func rawObject(raw []byte) runtime.RawExtension { return runtime.RawExtension{Raw: raw} }

// A row is an object, or a document that was refused, on its way into a table.
type row struct {
	object *store.Object // nil: there is none, the document was refused
	reject *Rejection    // the object's latest document was refused
}

func (r row) version() uint64 {
	if r.object == nil {
		return 0
	}
	return r.object.Version
}

// objects makes rows of objects, each with the refusal of its latest document.
func (s *Server) objects(q *request, objects []*store.Object, rows []row) []row {
	byName := map[store.Key]*Rejection{}
	for _, r := range s.reject.of(q.res, q.namespace) {
		byName[store.Key{Resource: q.res.key, Namespace: r.Namespace, Name: r.Name}] = &r
	}
	for _, o := range objects {
		if o == nil {
			continue
		}
		r := byName[o.Key]
		if r != nil && !s.reject.newest(o, *r) {
			r = nil
		}
		rows = append(rows, row{o, r})
	}
	return rows
}

// rejected adds the documents that were refused and have no object.
func (s *Server) rejected(q *request, rows []row, match *selector) []row {
	added := false
	for _, r := range s.reject.of(q.res, q.namespace) {
		k := store.Key{Resource: q.res.key, Namespace: r.Namespace, Name: r.Name}
		if match.labels != nil || len(match.fields) > 0 || match.name != "" && match.name != r.Name || s.store.Get(k) != nil {
			continue
		}
		rows = append(rows, row{reject: &r})
		added = true
	}
	if added {
		sort.SliceStable(rows, func(i, j int) bool {
			a, b := rows[i].key(), rows[j].key()
			if a.Namespace != b.Namespace {
				return a.Namespace < b.Namespace
			}
			return a.Name < b.Name
		})
	}
	return rows
}

func (r row) key() store.Key {
	if r.object != nil {
		return r.object.Key
	}
	return store.Key{Namespace: r.reject.Namespace, Name: r.reject.Name}
}

func (s *Server) writeTable(w http.ResponseWriter, q *request, form *tableShape, rows []row, version uint64) error {
	for _, r := range rows {
		if r.object != nil {
			q.warnings.add(s.told.once(q.res, r.object)...)
		}
	}
	raw, err := json.Marshal(s.table(q, form, rows, version, true))
	if err != nil {
		return err
	}
	q.warnings.write(w.Header())
	writeRaw(w, http.StatusOK, raw)
	return nil
}

// table draws rows; a watch sends the headers with its first table only.
func (s *Server) table(q *request, form *tableShape, rows []row, version uint64, headers bool) *metav1.Table {
	d := table.For(q.res.Kind)
	if slices.ContainsFunc(rows, func(r row) bool { return r.reject != nil }) {
		d = d.WithStatus()
	}
	t := &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(version, 10)},
		Rows:     make([]metav1.TableRow, 0, len(rows)),
	}
	if headers {
		t.ColumnDefinitions = d.Columns()
	}
	now := s.now()
	var findings map[store.Key][]string
	if d.WantsFindings() {
		findings = s.findings(q)
	}
	for _, r := range rows {
		cells, u := s.cells(q, d, r, table.Context{Now: now, Findings: findings[r.key()]})
		line := metav1.TableRow{Cells: cells}
		switch form.include {
		case metav1.IncludeObject:
			if raw, err := json.Marshal(q.in(u).Object); err == nil {
				line.Object.Raw = raw
			}
		case metav1.IncludeMetadata:
			if raw, err := json.Marshal(u.Object); err == nil {
				line.Object.Raw = partial(raw, "PartialObjectMetadata")
			}
		}
		t.Rows = append(t.Rows, line)
	}
	return t
}

// findingLabel is on the Events by which the control plane says what is wrong with an object.
const findingLabel = "malla.dev/finding"

// findings are what Events say about the objects of a request's kind.
func (s *Server) findings(q *request) map[store.Key][]string {
	list, _ := s.store.List("events", q.namespace)
	out := map[store.Key][]string{}
	for _, o := range list {
		u := o.Value
		about := func(name string) string {
			v, _, _ := unstructured.NestedString(u.Object, "involvedObject", name)
			return v
		}
		group, _, _ := strings.Cut(about("apiVersion"), "/")
		if u.GetLabels()[findingLabel] == "" || about("kind") != q.res.Kind.Kind || group != q.res.Group {
			continue
		}
		k := store.Key{Resource: q.res.key, Namespace: about("namespace"), Name: about("name")}
		text, _, _ := unstructured.NestedString(u.Object, "message")
		out[k] = append(out[k], text)
	}
	return out
}

// cells draws one row. What was refused and never accepted has a name and a status only.
func (s *Server) cells(q *request, d *table.Drawing, r row, c table.Context) ([]any, *unstructured.Unstructured) {
	if r.reject != nil {
		c.Refused = "refused: " + r.reject.told()
	}
	if r.object != nil {
		return d.Row(r.object.Value, c), r.object.Value
	}
	u := q.nobody(r.reject)
	c.Missing = true
	return d.Row(u, c), u
}
