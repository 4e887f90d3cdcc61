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
	h := httpServer(s.handler, log)
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

// httpServer gives every wait for a client an end, and clients a number. A handler that streams sets deadlines of its own.
func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: h, ConnState: newCrowd(ownCrowd()).see, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}
