package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/base/field"
)

// Bytes reads the documents of a text; file is its name in positions. Lists of
// objects become their items. Documents without content are left out.
func Bytes(file string, data []byte) ([]*Doc, field.List) {
	r := &Result{}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if len(data) > MaxFile {
		r.errorf(file, "%d bytes, want at most %d", len(data), MaxFile)
		return nil, r.Errors
	}
	if i := bytes.IndexByte(data, 0); i >= 0 {
		r.errorf(position(file, 1+bytes.Count(data[:i], []byte("\n"))), "a zero byte; want text in UTF-8")
		return nil, r.Errors
	}
	if docs := jsonDocuments(data); docs != nil {
		for _, d := range docs {
			r.document(file, d)
		}
		return r.Docs, r.Errors
	}
	docs := split(data)
	if len(docs) > MaxDocuments {
		r.errorf(file, "%d documents, want at most %d", len(docs), MaxDocuments)
		return nil, r.Errors
	}
	for _, d := range docs {
		r.document(file, d)
	}
	return r.Docs, r.Errors
}

// A chunk is the text of one document and the line of the file it starts on.
type chunk struct {
	text []byte
	line int
}

// split cuts a YAML text at its document separators. Chunks of comments only are left out.
func split(data []byte) []chunk {
	var docs []chunk
	var text []byte
	start, line, content := 1, 0, false
	flush := func(next int) {
		if content {
			docs = append(docs, chunk{text, start})
		}
		text, start, content = nil, next, false
	}
	for l := range bytes.Lines(data) {
		line++
		trimmed := bytes.TrimSpace(l)
		switch {
		case bytes.HasPrefix(l, []byte("---")) && (len(trimmed) == 3 || l[3] == ' ' || l[3] == '\t'):
			flush(line)
			// What follows on the line belongs to the document; its columns stay.
			l = append([]byte("   "), l[3:]...)
			trimmed = bytes.TrimSpace(l)
		case bytes.HasPrefix(l, []byte("...")) && len(trimmed) == 3:
			flush(line + 1)
			continue
		case !content && len(l) > 0 && l[0] == '%': // a directive
			l = []byte("\n")
			trimmed = nil
		}
		if len(trimmed) > 0 && trimmed[0] != '#' {
			content = true
		}
		text = append(text, l...)
	}
	flush(line)
	return docs
}

// jsonDocuments returns the values of a text that is JSON throughout, else nil.
// Tabs between tokens are made blanks, since YAML's parser finds the positions.
func jsonDocuments(data []byte) []chunk {
	if t := bytes.TrimSpace(data); len(t) == 0 || t[0] != '{' && t[0] != '[' {
		return nil
	}
	var docs []chunk
	d := json.NewDecoder(bytes.NewReader(data))
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil || len(docs) == MaxDocuments {
			return nil
		}
		before := data[:d.InputOffset()-int64(len(raw))]
		docs = append(docs, chunk{bytes.ReplaceAll(raw, []byte("\t"), []byte(" ")), 1 + bytes.Count(before, []byte("\n"))})
	}
}

// document reads one document into r.
func (r *Result) document(file string, c chunk) {
	data, err := yaml.YAMLToJSONStrict(c.text)
	if err != nil {
		r.syntax(file, c, err)
		return
	}
	var value any
	if err := utiljson.Unmarshal(data, &value); err != nil {
		r.errorf(position(file, c.first()), "%v", err)
		return
	}
	if value == nil {
		return
	}
	object, ok := value.(map[string]any)
	if !ok {
		r.errorf(position(file, c.first()), "found %s, want an object with apiVersion and kind", shape(value))
		return
	}
	if depth(value, maxDepth) < 0 {
		r.errorf(position(file, c.first()), "fields are nested more than %d deep", maxDepth)
		return
	}
	r.object(&Doc{Object: &unstructured.Unstructured{Object: object}, File: file, Line: c.first(), text: c})
}

// object adds the document, or the items if it is a list.
func (r *Result) object(d *Doc) {
	kind, _ := d.Object.Object["kind"].(string)
	items, isList := d.Object.Object["items"].([]any)
	if !strings.HasSuffix(kind, "List") || !isList {
		r.Docs = append(r.Docs, d)
		return
	}
	for i, item := range items {
		at := field.At("items").Index(i)
		object, ok := item.(map[string]any)
		if !ok {
			r.Errors = append(r.Errors, &field.Error{In: kind, At: at, Pos: d.Pos(at), Msg: "found " + shape(item) + ", want an object"})
			continue
		}
		e := &Doc{Object: &unstructured.Unstructured{Object: object}, File: d.File, text: d.text, base: append(d.base, step{name: "items"}, step{index: i})}
		e.Line = e.line(nil)
		r.object(e)
	}
}

// first returns the line of the file on which the document's content starts.
func (c chunk) first() int {
	line := c.line
	for l := range bytes.Lines(c.text) {
		if t := bytes.TrimSpace(l); len(t) > 0 && t[0] != '#' {
			return line
		}
		line++
	}
	return c.line
}

var yamlLine = regexp.MustCompile(`^\s*(?:yaml: )?(?:line (\d+): )?(.*)`)

// syntax adds the errors of YAML's parser with the file's own line numbers and,
// where one can be seen, the usual cause.
func (r *Result) syntax(file string, c chunk, err error) {
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	text = strings.TrimPrefix(text, "yaml: unmarshal errors:\n")
	for l := range strings.Lines(text) {
		m := yamlLine.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil || m[2] == "" {
			continue
		}
		line, msg := c.first(), m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = c.line + n - 1
		}
		if tab := c.tab(); tab > 0 {
			line, msg = tab, "indented with a tab; YAML allows only blanks"
		}
		if key, ok := strings.CutSuffix(strings.TrimPrefix(msg, "key "), " already set in map"); ok {
			msg = fmt.Sprintf("field %s is written twice; the second one would hide the first", key)
		}
		r.errorf(position(file, line), "%s", msg)
	}
}

// tab returns the line of the file that is indented with a tab, 0 if none is.
func (c chunk) tab() int {
	line := c.line
	for l := range bytes.Lines(c.text) {
		indent := l[:len(l)-len(bytes.TrimLeft(l, " \t"))]
		if bytes.IndexByte(indent, '\t') >= 0 && len(bytes.TrimSpace(l)) > 0 {
			return line
		}
		line++
	}
	return 0
}

// depth returns how deep v is nested, or -1 if deeper than most.
func depth(v any, most int) int {
	if most < 0 {
		return -1
	}
	deepest := 0
	visit := func(c any) bool {
		d := depth(c, most-1)
		deepest = max(deepest, d+1)
		return d >= 0
	}
	switch v := v.(type) {
	case map[string]any:
		for _, c := range v {
			if !visit(c) {
				return -1
			}
		}
	case []any:
		for _, c := range v {
			if !visit(c) {
				return -1
			}
		}
	}
	return deepest
}

// shape names what a value is, for messages.
func shape(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		return "a text"
	case bool:
		return fmt.Sprintf("%v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	default:
		return "a number"
	}
}

func position(file string, line int) string { return file + ":" + strconv.Itoa(line) }
