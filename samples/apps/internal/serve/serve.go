// Package serve runs the listeners of the sample programs and stops them
// without losing a request.
//
// A pod's endpoint leaves the load balancers a moment after its processes have
// been told to stop. A server that closes its socket at once loses what arrives
// in between. So a server here goes on accepting for [Drain], asks the clients
// to close by "Connection: close", and closes only then.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Drain is how long a server still accepts after it was told to stop.
const Drain = time.Second

// grace bounds the wait for requests in flight after that.
const grace = 20 * time.Second

// Listen opens a TCP port on all addresses, v4 and v6.
func Listen(port string) (net.Listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("", port))
	if err != nil {
		return nil, fmt.Errorf("listen on port %s: %w", port, err)
	}
	return l, nil
}

// HTTP listens on port and serves h until ctx ends.
func HTTP(ctx context.Context, port string, h http.Handler) error {
	l, err := Listen(port)
	if err != nil {
		return err
	}
	return HTTPOn(ctx, l, h)
}

// HTTPOn serves h on l until ctx ends, then stops as the package promises. It
// closes l.
func HTTPOn(ctx context.Context, l net.Listener, h http.Handler) error {
	var draining atomic.Bool
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if draining.Load() {
				w.Header().Set("Connection", "close")
			}
			h.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 30 * time.Second,
		// Longer than a proxy keeps an idle connection (Envoy: one hour). If the
		// application closed first, a request could cross the FIN and be lost.
		IdleTimeout: 65 * time.Minute,
		// A client that breaks off is its own affair, not a line in the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	draining.Store(true)
	wait(Drain)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(limit); err != nil {
		_ = server.Close() // whoever is not done by now is cut off
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	return nil
}

// TCP calls handle, in a goroutine of its own, for each connection that l
// accepts until ctx ends, then stops as the package promises. It closes l and
// every connection. The context given to handle ends when the connections are
// to be closed.
func TCP(ctx context.Context, l net.Listener, handle func(context.Context, net.Conn)) error {
	conns, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var closing atomic.Bool
	stopped := context.AfterFunc(ctx, func() {
		wait(Drain)
		closing.Store(true)
		_ = l.Close()
		cut()
	})
	defer stopped()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			cut()
			if closing.Load() {
				return nil
			}
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		}
		open.Go(func() {
			defer c.Close()
			defer context.AfterFunc(conns, func() { _ = c.Close() })()
			handle(conns, c)
		})
	}
}

func wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// Port is the number in an environment variable, or def if it is unset. A
// container link's value, "tcp://10.96.3.4:5000", counts as its port: the
// variables that Kubernetes makes for a Service called "provider" have the
// same names as ours.
func Port(env func(string) string, name, def string) string {
	v := env(name)
	if v == "" {
		return def
	}
	if rest, ok := strings.CutPrefix(v, "tcp://"); ok {
		if _, port, err := net.SplitHostPort(rest); err == nil {
			return port
		}
	}
	return v
}
