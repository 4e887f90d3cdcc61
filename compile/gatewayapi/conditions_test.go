package gatewayapi

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// A condition tells all that is wrong, each once and the first reason first, and is never longer than a status may hold.
func TestAllThatIsWrong(t *testing.T) {
	c := &conditions{}
	c.set(resolved, true, "ResolvedRefs", "what it names is there")
	for _, text := range []string{"one", "two", "one", "three"} {
		c.fail(resolved, "Is"+text, "%s", text)
	}
	if got := c.get(resolved); got.Message != "one; two; three" || got.Reason != "Isone" {
		t.Errorf("%s: %s", got.Reason, got.Message)
	}
	for i := range 10_000 {
		c.fail(resolved, "X", "%d is wrong, too", i)
	}
	c.set(accepted, false, "X", "%s", strings.Repeat("é", 40_000))
	for _, x := range c.list {
		if len(x.Message) > 32<<10 || !utf8.ValidString(x.Message) || x.Message == "" {
			t.Errorf("%s has a message of %d bytes", x.Type, len(x.Message))
		}
	}
}
