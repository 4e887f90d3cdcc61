package table

import (
	"bytes"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/jsonpath"

	"github.com/mallamesh/malla/config/kind"
)

// custom draws a kind by the columns of its row in the table of kinds. Kinds
// that the control plane has a word about get a STATUS before AGE; it says Accepted unless the latest
// document was refused, or a condition of the object's status or a finding says what is wrong.
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
	withStatus := judged(k)
	d.findings = withStatus && !strings.HasSuffix(k.Group, ".istio.io") // which have them in their status
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
			cells = append(cells, standing(u, c.Findings))
		}
		return append(cells, age(u, c))
	}
	return d
}

// judged reports whether the control plane says how it is with objects of a kind.
func judged(k *kind.Kind) bool {
	if k.Class == kind.Ignored || k.Kind == "ReferenceGrant" {
		return false
	}
	return strings.HasSuffix(k.Group, ".istio.io") || k.Group == kind.GatewayAPI
}

// find returns a field as a cell, cut if it is long; a missing one is empty.
func find(p *jsonpath.JSONPath, u *unstructured.Unstructured) any {
	results, err := p.FindResults(u.Object)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	var b bytes.Buffer
	if err := p.PrintResults(&b, results[0]); err != nil {
		return nil
	}
	return short(b.String())
}
