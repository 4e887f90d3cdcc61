// Package patch changes what translation made as people ask for in Envoy's own words
// (Istio's kind EnvoyFilter).
//
// A [Set] is the patches for one proxy. Each of its functions takes one resource and
// changes it: resources are made and patched by name, one without the others. What a
// patch selects, what its operation does and in which order patches act are Istio's, with
// the differences that ARCHITECTURE.md lists.
//
// Values have been read and checked before (config/envoyfilter). A patch that does not
// fit what it meets (a merge into a filter of another type) leaves it alone.
package patch

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
)

// A Set is the patches for one proxy, by what they change, in the order in which they
// act. The nil Set changes nothing.
type Set struct {
	by [model.PatchTargets][]*model.Patch
}

// Of returns the patches for the proxy, nil if there are none.
func Of(v *model.View) *Set {
	list := v.Patches()
	if len(list) == 0 {
		return nil
	}
	type key struct{}
	return v.Memo(key{}, func() any {
		s := &Set{}
		for _, p := range list {
			s.by[p.Target] = append(s.by[p.Target], p)
		}
		return s
	}).(*Set)
}

// any reports whether a patch changes one of the targets.
func (s *Set) any(targets ...model.PatchTarget) bool {
	return slices.ContainsFunc(targets, func(t model.PatchTarget) bool { return len(s.by[t]) > 0 })
}

// in returns the patches of a target that are for the context.
func (s *Set) in(context model.PatchContext, target model.PatchTarget) []*model.Patch {
	out := s.by[target]
	if !slices.ContainsFunc(out, func(p *model.Patch) bool { return !isIn(context, p) }) {
		return out
	}
	return slices.DeleteFunc(slices.Clone(out), func(p *model.Patch) bool { return !isIn(context, p) })
}

func isIn(context model.PatchContext, p *model.Patch) bool {
	return p.Context == model.PatchAnywhere || p.Context == context
}

func isMerge(p *model.Patch) bool {
	return p.Op == model.PatchMerge || p.Op == model.PatchMergeReplace
}

// copyOf returns the value of a patch for use in a resource: later patches may change it there.
func copyOf[M proto.Message](p *model.Patch) M { return proto.Clone(p.Value).(M) }

// edit applies one patch to a list of things that have an order; is says which of them it selects.
func edit[M proto.Message](list []M, p *model.Patch, is func(M) bool) []M {
	first := slices.IndexFunc(list, is)
	switch p.Op {
	case model.PatchAdd:
		return append(list, copyOf[M](p))
	case model.PatchInsertFirst:
		return slices.Insert(list, 0, copyOf[M](p))
	case model.PatchInsertBefore:
		switch {
		case !p.Selects():
			return slices.Insert(list, 0, copyOf[M](p))
		case first >= 0:
			return slices.Insert(list, first, copyOf[M](p))
		}
	case model.PatchInsertAfter:
		switch {
		case !p.Selects():
			return append(list, copyOf[M](p))
		case first >= 0:
			return slices.Insert(list, first+1, copyOf[M](p))
		}
	case model.PatchReplace:
		if p.Selects() && first >= 0 {
			list[first] = copyOf[M](p)
		}
	case model.PatchRemove:
		if p.Selects() {
			return slices.DeleteFunc(list, is)
		}
	}
	return list
}

// packed puts m in an Any, in bytes that are the same for equal messages.
func packed(m proto.Message) *anypb.Any {
	a := new(anypb.Any)
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("patch: a message that was read does not marshal: " + err.Error()) // invalid UTF-8 is refused at the door
	}
	return a
}
