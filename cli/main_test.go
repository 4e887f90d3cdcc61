package cli

import (
	"context"
	"flag"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the sessions in testdata")

// within returns a context that ends a stuck test.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
