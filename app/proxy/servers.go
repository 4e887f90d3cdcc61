package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// A server is one of the proxy's own HTTP ports: none of them carries traffic.
type server struct {
	name    string
	address string
	handler http.Handler
	tell    string // a file that the address is written to
}

// start listens, and serves until ctx ends.
func (s server) start(ctx context.Context, group *errgroup.Group, log *slog.Logger) error {
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if s.tell != "" { // only now: whoever waits for the file may ask at once
		if err := os.WriteFile(s.tell, []byte(l.Addr().String()), 0o644); err != nil {
			l.Close()
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	h := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	group.Go(func() error {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return h.Close()
	})
	log.Debug("listening", "for", s.name, "address", l.Addr().String())
	return nil
}
