package status

import (
	"reflect"
	"slices"
	"time"
)

// The statuses of Gateway API: who serves an object says how it is with it, always, and
// keeps to what the standard wants of conditions.

// The lists in which several controllers have entries, by the name of what each is about.
var shared = map[string]string{"parents": "parentRef", "ancestors": "ancestorRef"}

// room is how many entries a list takes, of all controllers together.
var room = map[string]int{"parents": 32, "ancestors": 16}

// settle returns the status that an object gets whose own word want is, nil if nothing of
// it is ours any more. In lists with entries of several controllers only those of ours
// are written. A condition keeps the time of its last transition until it has another
// status; conditions of types that are not ours stay.
func settle(have, want map[string]any, ours []string, now time.Time) map[string]any {
	next := make(map[string]any, len(have)+len(want))
	for k, v := range have {
		next[k] = v
	}
	for list, about := range shared {
		entries, written := have[list].([]any)
		mine, wanted := want[list].([]any)
		if !written && !wanted {
			continue
		}
		next[list] = fitting(sharedList(entries, mine, about, ours, now), ours, room[list])
	}
	if want == nil {
		return next
	}
	for k := range have { // what is said no more goes
		if _, still := want[k]; !still && shared[k] == "" {
			delete(next, k)
		}
	}
	for k, v := range want {
		switch {
		case shared[k] != "":
		case k == "conditions":
			next[k] = timed(list(have[k]), list(v), true, now)
		case k == "listeners":
			next[k] = timedEntries(list(have[k]), list(v), func(a, b map[string]any) bool { return a["name"] == b["name"] }, now)
		default:
			next[k] = v
		}
	}
	return next
}

// withdraw takes from a status what was said in it while the object was ours, and nothing that is not that word for word.
func withdraw(next, was map[string]any) {
	for part, said := range was {
		if reflect.DeepEqual(next[part], said) {
			delete(next, part)
		}
	}
}

// sharedList returns the entries of others and ours. What is there keeps its place: two controllers that each put
// their own last would write for ever.
func sharedList(have, want []any, about string, ours []string, now time.Time) []any {
	same := func(a, b map[string]any) bool {
		return a["controllerName"] == b["controllerName"] && reflect.DeepEqual(a[about], b[about])
	}
	mine := timedEntries(have, want, same, now)
	next := []any{}
	for _, e := range have {
		m, _ := e.(map[string]any)
		if name, _ := m["controllerName"].(string); !slices.Contains(ours, name) {
			next = append(next, e)
			continue
		}
		if i := slices.IndexFunc(mine, func(e any) bool { return same(e.(map[string]any), m) }); i >= 0 {
			next, mine = append(next, mine[i]), slices.Delete(mine, i, i+1)
		}
	}
	return append(next, mine...)
}

// fitting drops the last of our entries until there is room for all: with one too many the API server would take none.
func fitting(list []any, ours []string, room int) []any {
	for i := len(list) - 1; i >= 0 && len(list) > room; i-- {
		m, _ := list[i].(map[string]any)
		if name, _ := m["controllerName"].(string); slices.Contains(ours, name) {
			list = slices.Delete(list, i, i+1)
		}
	}
	return list
}

// timedEntries gives the conditions of each entry their times, from the entry that it replaces.
func timedEntries(have, want []any, same func(a, b map[string]any) bool, now time.Time) []any {
	next := make([]any, 0, len(want))
	for _, e := range want {
		m, _ := e.(map[string]any)
		out := make(map[string]any, len(m))
		for k, v := range m {
			out[k] = v
		}
		var old map[string]any
		for _, h := range have {
			if h, _ := h.(map[string]any); h != nil && same(h, m) {
				old = h
			}
		}
		out["conditions"] = timed(list(old["conditions"]), list(m["conditions"]), false, now)
		next = append(next, out)
	}
	return next
}

// timed gives conditions the times of their last transitions. Others' stay, if asked for.
func timed(have, want []any, others bool, now time.Time) []any {
	old, kept := map[any]map[string]any{}, []any{}
	for _, c := range have {
		if m, _ := c.(map[string]any); m != nil {
			old[m["type"]] = m
		}
	}
	next := make([]any, 0, len(want))
	for _, c := range want {
		m, _ := c.(map[string]any)
		out := make(map[string]any, len(m)+1)
		for k, v := range m {
			out[k] = v
		}
		since := any(now.UTC().Format(time.RFC3339))
		if was := old[m["type"]]; was != nil && was["status"] == m["status"] && was["lastTransitionTime"] != nil {
			since = was["lastTransitionTime"]
		}
		out["lastTransitionTime"] = since
		next = append(next, out)
		delete(old, m["type"])
	}
	if !others {
		return next
	}
	for _, c := range have {
		if m, _ := c.(map[string]any); m != nil && old[m["type"]] != nil {
			kept = append(kept, c)
		}
	}
	return append(next, kept...)
}

// mentions reports whether a status has an entry of one of our controllers.
func mentions(status map[string]any, ours []string) bool {
	for name := range shared {
		for _, e := range list(status[name]) {
			m, _ := e.(map[string]any)
			if controller, _ := m["controllerName"].(string); slices.Contains(ours, controller) {
				return true
			}
		}
	}
	return false
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
