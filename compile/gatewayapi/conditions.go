package gatewayapi

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/config"
)

// conditions collects those of one object, or of a part of it, as they were last set.
type conditions struct {
	generation int64
	list       []metav1.Condition
}

func conditionsOf(o *config.Object) *conditions {
	return &conditions{generation: o.Value.(metav1.Object).GetGeneration()}
}

// set says whether a condition holds.
func (c *conditions) set(kind string, ok bool, reason, format string, args ...any) {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	text := fmt.Sprintf(format, args...)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " ..."
	}
	next := metav1.Condition{Type: kind, Status: status, Reason: reason, Message: text, ObservedGeneration: c.generation}
	if old := c.get(kind); old != nil {
		*old = next
		return
	}
	c.list = append(c.list, next)
}

// fail is set for what does not hold. The first that is wrong gives the reason, and all of it is told.
func (c *conditions) fail(kind, reason, format string, args ...any) {
	if !c.bad(kind) {
		c.set(kind, false, reason, format, args...)
		return
	}
	const between, more = "; ", "; and more"
	was, text := c.get(kind), fmt.Sprintf(format, args...)
	switch {
	case strings.Contains(between+was.Message+between, between+text+between) || strings.HasSuffix(was.Message, more):
	case len(was.Message) > longest:
		was.Message += more
	default:
		was.Message += between + text
	}
}

// Lengths of messages, in bytes: beyond longest nothing is added, and more than most nobody would take (32 KiB are
// allowed).
const longest, most = 4 << 10, 16 << 10

func (c *conditions) get(kind string) *metav1.Condition {
	for i := range c.list {
		if c.list[i].Type == kind {
			return &c.list[i]
		}
	}
	return nil
}

// bad reports whether something was said against a condition.
func (c *conditions) bad(kind string) bool {
	x := c.get(kind)
	return x != nil && x.Status == metav1.ConditionFalse
}

// clone is for a second object, or part, that begins with what was found about the first.
func (c *conditions) clone() *conditions {
	return &conditions{generation: c.generation, list: append([]metav1.Condition(nil), c.list...)}
}

const (
	accepted   = "Accepted"
	programmed = "Programmed"
	resolved   = "ResolvedRefs"
	conflicted = "Conflicted"
)
