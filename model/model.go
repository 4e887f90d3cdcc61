// Package model is the mesh as malla understands it: plain data, without
// protobuf, Kubernetes or a dialect.
//
// The registry fills [Registry] (what exists: services, endpoints, workloads),
// compile adds what people say about it (routes, policies, gateways, identities)
// and makes a [Mesh]. A [View] is the mesh as one proxy may see it; translate
// asks it by name.
//
// Everything here is immutable once it is published: values are shared between
// meshes of different generations, between proxies and between goroutines.
// Nothing may write to a value, slice or map that it did not make itself.
// Slices that hold sets are sorted, so equal contents look equal.
package model

import (
	"cmp"
	"strconv"
	"strings"
	"time"
)

// A Ref names the resource from which a value was made, for messages, for the
// dump of the configuration and for explanations.
type Ref struct {
	Kind, Namespace, Name string
	Pos                   string // where it was written: "reviews.yaml:12"; may be empty
	Version               string // the resource version
}

// String returns "VirtualService prod/reviews".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// A Name is that of an object of a kind that goes without saying.
type Name struct{ Namespace, Name string }

// String returns "prod/reviews".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Older reports whether the resource a, made at at, beats the resource b, made
// at bt, where two of equal rank disagree: the oldest wins; of one age, the one
// whose file and line come first, then the name, then the namespace.
func Older(at time.Time, a Ref, bt time.Time, b Ref) bool {
	fileA, lineA := place(a.Pos)
	fileB, lineB := place(b.Pos)
	return cmp.Or(
		at.Compare(bt),
		cmp.Compare(fileA, fileB), cmp.Compare(lineA, lineB),
		cmp.Compare(a.Name, b.Name), cmp.Compare(a.Namespace, b.Namespace),
	) < 0
}

// place splits "reviews.yaml:12" so that line 9 comes before line 12.
func place(pos string) (file string, line int) {
	i := strings.LastIndexByte(pos, ':')
	n, err := strconv.Atoi(pos[i+1:])
	if i < 0 || err != nil {
		return pos, 0
	}
	return pos[:i], n
}

// ExportTo says which namespaces see a resource: "." its own, "*" all, "~"
// none, or names of namespaces. Empty means the mesh's default for the kind.
type ExportTo []string

// Sees reports whether the namespace client sees a resource of the namespace
// owner. Def applies where e is empty; an empty def is everybody.
func (e ExportTo) Sees(owner, client string, def ExportTo) bool {
	if len(e) == 0 {
		e = def
	}
	if len(e) == 0 {
		return true
	}
	for _, to := range e {
		switch to {
		case "*":
			return true
		case "~":
			return false
		case ".":
			if owner == client {
				return true
			}
		case client:
			return true
		}
	}
	return false
}

// A Labels set is what selectors select.
type Labels map[string]string

// Matches reports whether every label of the selector sel is in l. The empty
// selector selects everything.
func (l Labels) Matches(sel map[string]string) bool {
	for k, v := range sel {
		if got, ok := l[k]; !ok || got != v {
			return false
		}
	}
	return true
}
