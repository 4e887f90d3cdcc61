package table

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Longest is how many characters a STATUS has at the most: the whole of it is in the
// object, for `malla describe` and `-o yaml`.
const Longest = 160

// short is a text of one line that fits into a table; what is cut ends with "...".
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	r := []rune(text)
	if len(r) <= Longest {
		return text
	}
	cut := string(r[:Longest-4])
	if i := strings.LastIndexByte(cut, ' '); i > len(cut)/2 {
		cut = cut[:i]
	}
	return cut + " ..."
}

// worse are types of conditions that tell of something bad when they are True.
var worse = map[string]bool{"PartiallyInvalid": true, "Conflicted": true, "OverlappingTLSConfig": true, "InsecureFrontendValidationMode": true}

// neutral are types of conditions that are no news in either state.
var neutral = map[string]bool{"AttachedListenerSets": true}

// standing is what an object's findings and conditions come to, in one line: the first that is wrong, and how
// many more there are. The conditions may be those of a Gateway's listeners, or of a route's parents.
func standing(u *unstructured.Unstructured, findings []string) string {
	wrong := append([]string{}, findings...)
	var later []string // names that are not there: what is wrong with the object itself comes first
	add := func(prefix string, conditions any) {
		list, _ := conditions.([]any)
		for _, c := range list {
			m, _ := c.(map[string]any)
			kind, _ := m["type"].(string)
			bad := m["status"] == "False"
			if worse[kind] {
				bad = m["status"] == "True"
			}
			if !bad || neutral[kind] {
				continue
			}
			text, _ := m["message"].(string)
			if text == "" {
				text = fmt.Sprint(m["reason"])
			}
			for line := range strings.SplitSeq(text, "\n") { // Istio's has a line for each finding
				if kind == "ResolvedRefs" {
					later = append(later, prefix+line)
				} else {
					wrong = append(wrong, prefix+line)
				}
			}
		}
	}
	status, _ := u.Object["status"].(map[string]any)
	add("", status["conditions"])
	for _, part := range parts {
		list, _ := status[part.list].([]any)
		for _, e := range list {
			m, _ := e.(map[string]any)
			add(part.prefix(m), m["conditions"])
		}
	}
	if wrong = append(wrong, later...); len(wrong) == 0 {
		return waiting(u, status)
	}
	seen, others := map[string]bool{}, -1
	for _, text := range wrong {
		if !seen[text] {
			seen[text] = true
			others++
		}
	}
	first := short(wrong[0])
	if others > 0 {
		first += fmt.Sprintf(" (and %d more)", others)
	}
	return first
}

// parts are the lists in a status whose entries have conditions of their own.
var parts = []struct {
	list   string
	prefix func(entry map[string]any) string
}{
	{"listeners", func(e map[string]any) string { return fmt.Sprintf("listener %v: ", e["name"]) }},
	{"parents", func(map[string]any) string { return "" }},
	{"ancestors", func(map[string]any) string { return "" }},
}

// waiting is what there is to say of an object with which nothing is wrong: maybe nobody has
// taken it.
func waiting(u *unstructured.Unstructured, status map[string]any) string {
	conditions, _ := status["conditions"].([]any)
	for _, c := range conditions {
		if m, _ := c.(map[string]any); m["type"] == "Accepted" && m["status"] == "Unknown" {
			return short(fmt.Sprint(m["message"]))
		}
	}
	refs, isRoute, _ := unstructured.NestedSlice(u.Object, "spec", "parentRefs")
	if taken, _ := status["parents"].([]any); !isRoute || len(taken) > 0 {
		return "Accepted"
	}
	var names []string
	for _, r := range refs {
		m, _ := r.(map[string]any)
		kind, _ := m["kind"].(string)
		if kind == "" {
			kind = "Gateway"
		}
		names = append(names, fmt.Sprintf("%s %v", kind, m["name"]))
	}
	if len(names) == 0 {
		return "spec.parentRefs is empty: nobody serves it"
	}
	return short("none of its parents has taken it: " + strings.Join(names, ", "))
}
