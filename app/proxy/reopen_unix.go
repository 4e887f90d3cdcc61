//go:build unix

package proxy

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// watchReopen opens access logs anew on SIGUSR1, as Envoy does, for logrotate.
func watchReopen(ctx context.Context, f *files) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1)
	go func() {
		defer signal.Stop(c)
		for {
			select {
			case <-c:
				f.Reopen()
			case <-ctx.Done():
				return
			}
		}
	}()
}
