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

// Older reports whether the resource a, made at at, beats the resource b, made
// at bt, where two of equal rank disagree: the oldest wins, then the name, then
// the namespace, then the place in the files.
func Older(at time.Time, a Ref, bt time.Time, b Ref) bool {
	if !at.Equal(bt) {
		return at.Before(bt)
	}
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c < 0
	}
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c < 0
	}
	return a.Pos < b.Pos
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
