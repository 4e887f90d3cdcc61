package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/local/api/journal"
	"github.com/mallamesh/malla/local/api/store"
	"github.com/mallamesh/malla/local/api/token"
)

// A Server is one API server. Its methods are safe for concurrent use.
type Server struct {
	o       Options
	log     *slog.Logger
	now     func() time.Time
	kinds   *kinds
	store   *store.Store
	journal *journal.Journal // nil: memory only
	tokens  *token.Issuer
	pods    atomic.Pointer[PodBackend]
	reject  rejections
	told    told
	applies applyManagers

	allocation sync.Mutex // held from choosing a Service's addresses until they are stored

	ctx    context.Context // ends when the server closes
	cancel context.CancelFunc
	work   sync.WaitGroup
	http   *http.Server
}

// New reads the state file, makes what every cluster has (namespaces, their
// service accounts, service kubernetes) and starts collecting garbage.
func New(o Options) (*Server, error) {
	s := &Server{o: o, log: o.Log, now: o.Now, kinds: newKinds()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if o.Pods != nil {
		s.SetPods(o.Pods)
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	err := s.bootstrap()
	if err != nil {
		s.Close()
		return nil, err
	}
	s.work.Go(s.collectGarbage)
	return s, nil
}

// open makes the store, from the state file if there is one, and the token issuer.
func (s *Server) open() error {
	if s.o.StateFile == "" {
		s.store = store.New(1, nil, nil)
	} else {
		j, version, objects, err := journal.Open(s.o.StateFile, s.log)
		if err != nil {
			return err
		}
		s.journal, s.store = j, store.New(max(version, 1), objects, j)
		j.Snapshot(s.store)
	}
	var err error
	s.tokens, err = s.openTokens()
	if err != nil && s.journal != nil {
		s.journal.Close()
	}
	return err
}

// Handler returns the server's HTTP handler. Requests must carry a token.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// Serve answers on l until the server is closed, and then returns nil. A TCP
// listener is wrapped in TLS if the options have it.
func (s *Server) Serve(l net.Listener) error {
	if s.o.TLS != nil && l.Addr().Network() != "unix" {
		c := s.o.TLS.Clone()
		c.NextProtos = []string{"http/1.1"} // upgrades (exec) need HTTP/1.1
		l = tls.NewListener(l, c)
	}
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve the API on %s: %w", l.Addr(), err)
}

// SetPods says where pods run.
func (s *Server) SetPods(p PodBackend) { s.pods.Store(&p) }

// Close ends watches, writes the state file out and waits for both.
func (s *Server) Close() error {
	s.cancel()
	err := s.http.Close()
	s.work.Wait()
	if s.journal != nil {
		err = errors.Join(err, s.journal.Close())
	}
	return err
}

// maxBody is the largest document accepted; etcd's limit in a cluster is 1.5 MiB.
const maxBody = 3 << 20

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.survive(w, r)
	q, err := s.parse(r)
	if err == nil {
		err = s.authenticate(q)
	}
	if err == nil {
		err = q.authorize()
	}
	if err == nil {
		err = s.route(w, q)
	}
	if err != nil {
		writeError(w, err)
	}
}

// survive keeps a bug that one request finds from ending the mesh, whose
// in-process clients have no server around them that would.
func (s *Server) survive(w http.ResponseWriter, r *http.Request) {
	why := recover()
	if why == nil {
		return
	}
	if why == http.ErrAbortHandler {
		panic(why)
	}
	s.log.Error("bug: a request made the API server panic", "method", r.Method, "path", r.URL.Path, "panic", why, "stack", string(debug.Stack()))
	writeError(w, fmt.Errorf("internal error: %v", why))
}

// readBody reads a request's body, which has an upper bound.
func readBody(r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, badRequest("read the request: %v", err)
	}
	if len(raw) > maxBody {
		return nil, tooLarge(maxBody)
	}
	return raw, nil
}
