// Package table draws objects as the rows that `malla get` shows.
//
// Columns and texts are Kubernetes' own for Kubernetes' kinds, so that eyes and
// scripts that know kubectl are at home; other kinds have the columns that the
// table of kinds gives them, as a CRD's printer columns, and a STATUS: Accepted,
// or what a condition says is wrong, or why the latest document was refused; what is long is cut. A STATUS column that a kind has of its
// own shows the refusal in its place.
//
// Drawing reads nothing but the object and the [Context].
package table

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/mallamesh/malla/config/kind"
)

// Context is what a row depends on besides its object.
type Context struct {
	Now     time.Time
	Refused string // why the object's latest document was refused; "" if it was not
	Missing bool   // there is no object: its only document was refused
	// Findings are what the control plane has said about an object in Events, for a kind
	// whose drawing wants them.
	Findings []string
}

// A Drawing draws one kind.
type Drawing struct {
	columns []metav1.TableColumnDefinition
	cells   func(u *unstructured.Unstructured, c Context) []any
	status  int // index of the column that shows refusals, or -1
	// findings: the STATUS tells those of Events, since the object's status has no place for them.
	findings bool
}

// WantsFindings reports whether rows depend on [Context.Findings].
func (d *Drawing) WantsFindings() bool { return d.findings }

// Columns describes the columns.
func (d *Drawing) Columns() []metav1.TableColumnDefinition { return d.columns }

// Row draws an object.
func (d *Drawing) Row(u *unstructured.Unstructured, c Context) []any {
	cells := d.cells(u, c)
	if c.Missing {
		for i := 1; i < len(cells); i++ {
			cells[i] = ""
		}
	}
	if c.Refused != "" && d.status >= 0 {
		cells[d.status] = short(c.Refused)
	}
	return cells
}

// WithStatus returns the drawing with a STATUS column at its end, if it has none:
// for lists in which a document was refused.
func (d *Drawing) WithStatus() *Drawing {
	if d.status >= 0 {
		return d
	}
	w := &Drawing{columns: append(slices.Clip(d.columns), col("Status")), status: len(d.columns)} // those that want findings have one
	w.cells = func(u *unstructured.Unstructured, c Context) []any { return append(d.cells(u, c), "Accepted") }
	return w
}

// withStanding returns the drawing of a kind of Kubernetes' own with the control plane's word about its objects before AGE.
func (d *Drawing) withStanding() *Drawing {
	at := len(d.columns) - 1
	w := &Drawing{columns: slices.Insert(slices.Clone(d.columns), at, col("Status")), status: at, findings: true}
	w.cells = func(u *unstructured.Unstructured, c Context) []any {
		return slices.Insert(d.cells(u, c), at, any(standing(u, c.Findings)))
	}
	return w
}

// For returns the drawing of a kind.
func For(k *kind.Kind) *Drawing {
	if d := native[k.GVK().GroupKind().String()]; d != nil {
		return d
	}
	return custom(k)
}

// col and wide make column definitions.
func col(name string) metav1.TableColumnDefinition {
	c := metav1.TableColumnDefinition{Name: name, Type: "string"}
	if name == "Name" {
		c.Format = "name"
	}
	return c
}

func wide(name string) metav1.TableColumnDefinition {
	c := col(name)
	c.Priority = 1
	return c
}

// Age is how long ago something happened, as kubectl says it.
func Age(now time.Time, t metav1.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func age(u *unstructured.Unstructured, c Context) string {
	return Age(c.Now, u.GetCreationTimestamp())
}

// upper is how a column's name is compared: kubectl shows names in capitals.
func upper(s string) string { return strings.ToUpper(s) }
