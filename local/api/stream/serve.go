package stream

import (
	"context"
	"net/http"
)

// Want is which streams a client asked for.
type Want struct {
	Stdin, Stdout, Stderr, TTY bool
}

// Run does the work: it returns when the command has ended.
type Run func(ctx context.Context, s Streams) error

// Serve takes the connection over, calls run with its streams and reports how it
// ended. An error is one that happened before the connection was taken over.
func Serve(w http.ResponseWriter, r *http.Request, want Want, run Run) error {
	return nil
}
