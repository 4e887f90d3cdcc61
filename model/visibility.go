package model

// A Visibility says how far a ServiceEntry is seen at most.
type Visibility uint8

const (
	SeenByAll Visibility = iota
	SeenInNamespace
	SeenByNobody
)

// EntryVisibility is what the mesh says of ServiceEntries, whatever they say of themselves (serviceEntryVisibility).
type EntryVisibility struct {
	Default  Visibility
	Policies []VisibilityPolicy // the first that selects the namespace counts
}

// A VisibilityPolicy is for ServiceEntries of namespaces that all of the selectors select.
type VisibilityPolicy struct {
	Visibility Visibility
	Namespaces []LabelSelector
}

// Of returns what holds for ServiceEntries of a namespace with these labels.
func (e *EntryVisibility) Of(labels map[string]string) Visibility {
policies:
	for _, p := range e.Policies {
		for _, s := range p.Namespaces {
			if !s.Matches(labels) {
				continue policies
			}
		}
		return p.Visibility
	}
	return e.Default
}

// shown reports whether the mesh lets the proxy see a service, as far as that is its own to say.
func (v *View) shown(s *Service) bool {
	e := v.Mesh.Config.Entries
	if e == nil || s.Kubernetes {
		return true
	}
	switch e.Of(v.Mesh.Namespaces[s.Namespace]) {
	case SeenByNobody:
		return false
	case SeenInNamespace:
		return s.Namespace == v.Proxy.Namespace
	}
	return true
}
