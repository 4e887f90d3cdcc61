// Package hangup is what SIGHUP does: a terminal that has gone sends it, and so do old log rotation and init scripts.
package hangup

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Ignore has the process go on at SIGHUP, as Envoy does. Programs that it starts keep the default: the signal is caught, and not
// ignored, which they would inherit.
func Ignore() { signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) }

// Context is ctx that ends at SIGHUP, too, unless whoever started the process has it ignored (nohup).
func Context(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}
