package table

import (
	"bytes"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"

	"github.com/mallamesh/malla/config/kind"
)

// custom draws a kind by the columns of its row in the table of kinds. Kinds
// that are used get a STATUS before AGE; it says Accepted unless the latest
// document was refused, or a condition of the object's status is False.
func custom(k *kind.Kind) *Drawing {
	d := &Drawing{status: -1}
	d.columns = append(d.columns, col("Name"))
	paths := make([]*jsonpath.JSONPath, 0, len(k.Columns))
	for _, c := range k.Columns {
		if upper(c.Name) == "AGE" || upper(c.Name) == "NAME" {
			continue
		}
		p := jsonpath.New(c.Name).AllowMissingKeys(true)
		if p.Parse("{"+strings.Trim(c.JSONPath, "{}")+"}") != nil {
			continue
		}
		paths = append(paths, p)
		typ := c.Type
		if typ == "" {
			typ = "string"
		}
		d.columns = append(d.columns, metav1.TableColumnDefinition{Name: c.Name, Type: typ, Priority: c.Priority})
	}
	withStatus := k.Class == kind.Used && strings.HasSuffix(k.Group, ".istio.io")
	if withStatus {
		d.status = len(d.columns)
		d.columns = append(d.columns, col("Status"))
	}
	d.columns = append(d.columns, col("Age"))
	d.cells = func(u *unstructured.Unstructured, c Context) []any {
		cells := make([]any, 0, len(d.columns))
		cells = append(cells, u.GetName())
		for _, p := range paths {
			cells = append(cells, find(p, u))
		}
		if withStatus {
			cells = append(cells, standing(u))
		}
		return append(cells, age(u, c))
	}
	return d
}

// standing is what the conditions of an object come to: the message of one that is
// False, its first line.
func standing(u *unstructured.Unstructured) string {
	status, _ := u.Object["status"].(map[string]any)
	conditions, _ := status["conditions"].([]any)
	for _, c := range conditions {
		m, _ := c.(map[string]any)
		if m["status"] != "False" {
			continue
		}
		text, _ := m["message"].(string)
		if text == "" {
			text = fmt.Sprint(m["reason"])
		}
		first, rest, more := strings.Cut(text, "\n")
		if more {
			first += fmt.Sprintf(" (and %d more)", 1+strings.Count(rest, "\n"))
		}
		return first
	}
	return "Accepted"
}

// find returns a field as a cell; a missing one is empty.
func find(p *jsonpath.JSONPath, u *unstructured.Unstructured) any {
	results, err := p.FindResults(u.Object)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	var b bytes.Buffer
	if err := p.PrintResults(&b, results[0]); err != nil {
		return nil
	}
	return b.String()
}
