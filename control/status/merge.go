package status

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A Finding is one thing that is wrong with an object.
type Finding struct {
	Reason, Code string // ReferencedResourceNotFound, IST0101
	URL          string // where the reason is explained; may be empty
	Error        bool   // the object, or a part of it, is not in force
	Text         string // one line: field, what was found, what follows
	// Pending findings are not written yet, because what mends them may be on its way.
	// One that the object shows already (a control plane before this one knew it) stays.
	Pending bool
}

// Condition is the type of the condition that holds what is wrong.
const Condition = "Reconciled"

// most is how many findings an object shows; who has more has mended most of them
// with the first ones.
const most = 20

// merge returns the status of an object that has these findings. Status is not
// written; the result is equal to it if nothing has to be.
func merge(status map[string]any, generation int64, findings []Finding, now time.Time) map[string]any {
	old := condition(status)
	findings = due(findings, shown(old))
	next := make(map[string]any, len(status)+3)
	for k, v := range status {
		next[k] = v
	}
	if old == nil && len(findings) == 0 {
		return next // no word of ours is in it
	}
	var conditions []any
	list, _ := status["conditions"].([]any)
	for _, c := range list {
		if m, _ := c.(map[string]any); m["type"] != Condition {
			conditions = append(conditions, c)
		}
	}
	delete(next, "validationMessages")
	delete(next, "observedGeneration")
	if len(findings) > 0 {
		conditions = append(conditions, written(old, generation, findings, now))
		next["validationMessages"] = messages(findings)
		next["observedGeneration"] = generation
	}
	delete(next, "conditions")
	if len(conditions) > 0 {
		next["conditions"] = conditions
	}
	return next
}

// due drops the pending findings that are not shown, and puts errors first.
func due(findings []Finding, shown map[string]bool) []Finding {
	var out []Finding
	for _, f := range findings {
		if !f.Pending || shown[f.Text] {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int {
		switch {
		case a.Error == b.Error:
			return 0
		case a.Error:
			return -1
		}
		return 1
	})
	return out
}

// condition returns ours, nil if there is none.
func condition(status map[string]any) map[string]any {
	list, _ := status["conditions"].([]any)
	for _, c := range list {
		if m, _ := c.(map[string]any); m["type"] == Condition {
			return m
		}
	}
	return nil
}

// shown returns the findings that a condition tells.
func shown(condition map[string]any) map[string]bool {
	text, _ := condition["message"].(string)
	lines := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		lines[line] = true
	}
	return lines
}

func written(old map[string]any, generation int64, findings []Finding, now time.Time) map[string]any {
	var lines []string
	for _, f := range findings[:min(len(findings), most)] {
		lines = append(lines, f.Text)
	}
	if n := len(findings) - most; n > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more", n))
	}
	// The time is that of the change from right to wrong, not of another text.
	since := any(now.UTC().Format(time.RFC3339))
	if old["status"] == "False" && old["lastTransitionTime"] != nil {
		since = old["lastTransitionTime"]
	}
	return map[string]any{"type": Condition, "status": "False", "reason": findings[0].Reason, "message": strings.Join(lines, "\n"),
		"lastTransitionTime": since, "observedGeneration": generation}
}

func messages(findings []Finding) []any {
	var out []any
	for _, f := range findings[:min(len(findings), most)] {
		level := "WARNING"
		if f.Error {
			level = "ERROR"
		}
		m := map[string]any{"type": map[string]any{"name": f.Reason, "code": f.Code}, "level": level}
		if f.URL != "" {
			m["documentationUrl"] = f.URL
		}
		out = append(out, m)
	}
	return out
}

// patch returns the JSON merge patch that makes next of status, nil if they are equal.
func patch(version string, status, next map[string]any) map[string]any {
	if len(status) == 0 && len(next) == 0 || reflect.DeepEqual(status, next) {
		return nil
	}
	meta := map[string]any{"resourceVersion": version} // nobody's condition may get lost
	if len(next) == 0 {
		return map[string]any{"metadata": meta, "status": nil}
	}
	change := map[string]any{}
	for k := range status {
		if _, ok := next[k]; !ok {
			change[k] = nil
		}
	}
	for k, v := range next {
		if !reflect.DeepEqual(status[k], v) {
			change[k] = v
		}
	}
	return map[string]any{"metadata": meta, "status": change}
}
