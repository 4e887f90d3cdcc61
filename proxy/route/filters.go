package route

import "maps"

// What the levels of a configuration say to filters stands here. It is merged when a table is
// built: at run time a filter's word is one look-up, and none where nobody says anything.

// hasOff reports whether a level has a filter off.
func hasOff(m map[string]any) bool {
	for _, v := range m {
		if _, off := v.(Off); off {
			return true
		}
	}
	return false
}

// inherit merges what the levels above say into a route.
func (r *Route) inherit() {
	r.merged = overlay(overlay(r.table.filters, r.VHost.filters), r.filters)
	off := hasOff(r.merged)
	if r.Forward != nil {
		for i := range r.Forward.Weighted {
			w := &r.Forward.Weighted[i]
			w.merged = overlay(r.merged, w.filters)
			off = off || hasOff(w.merged)
		}
	}
	r.table.off = r.table.off || off
}

// overlay is base with what is in over in its place. Neither is written.
func overlay(base, over map[string]any) map[string]any {
	switch {
	case len(over) == 0:
		return base
	case len(base) == 0:
		return over
	}
	m := maps.Clone(base)
	for name, v := range over {
		_, on := v.(On)
		above := m[name]
		if _, off := above.(Off); on && above != nil && !off {
			continue // which has it on, too, and says how
		}
		m[name] = v
	}
	return m
}

// FilterConfig returns the most specific configuration of a filter: that of the chosen
// cluster, the route, the virtual host or the table; nil if there is none, Off if it is off.
func (r *Route) FilterConfig(filter string, w *WeightedCluster) any {
	m := r.merged
	if w != nil {
		m = w.merged
	}
	if m == nil {
		return nil
	}
	return m[filter]
}

// FilterConfigs appends what every level says to a filter, the most specific first. What is not a T is not meant for
// such a filter, whatever the name that it stands under: route tables come without the filters that they speak to.
func FilterConfigs[T any](r *Route, dst []T, filter string, w *WeightedCluster) []T {
	if r.FilterConfig(filter, w) == nil {
		return dst
	}
	if w != nil {
		dst = addConfig(dst, w.filters, filter)
	}
	for _, m := range [...]map[string]any{r.filters, r.VHost.filters, r.table.filters} {
		dst = addConfig(dst, m, filter)
	}
	return dst
}

func addConfig[T any](dst []T, m map[string]any, filter string) []T {
	if c, ok := m[filter].(T); ok {
		dst = append(dst, c)
	}
	return dst
}

// SwitchesFilters reports whether the table has filters off somewhere.
func (r *Route) SwitchesFilters() bool { return r.table.off }
