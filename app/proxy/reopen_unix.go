//go:build unix

package proxy

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// watchReopen opens logs anew on SIGUSR1, as Envoy does, for logrotate.
func watchReopen(ctx context.Context, reopen ...func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1)
	go func() {
		defer signal.Stop(c)
		for {
			select {
			case <-c:
				for _, f := range reopen {
					if f != nil {
						f()
					}
				}
			case <-ctx.Done():
				return
			}
		}
	}()
}
