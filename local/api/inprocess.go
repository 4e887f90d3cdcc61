package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
)

// Config returns a client configuration that reaches the server without a
// socket, as the administrator. Exec, which takes over a connection, needs one.
func (s *Server) Config() *rest.Config {
	return &rest.Config{
		Host:      "http://malla.internal",
		Transport: inProcess{s},
		UserAgent: "malla",
		QPS:       -1, // no limit: the server is ours
		// Warnings are for people; a controller would only log them.
		WarningHandler: rest.NoWarnings{},
		ContentConfig: rest.ContentConfig{
			ContentType: "application/json",
		},
	}
}

// inProcess carries requests to the server by calling it.
type inProcess struct{ s *Server }

// RoundTrip returns as soon as the answer begins; its body is a pipe.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(withUser(r.Context(), admin))
	in := r.Clone(ctx)
	in.RequestURI = r.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	body := newPipe(cancel)
	w := &answer{header: http.Header{}, body: body, begun: make(chan struct{})}
	go func() {
		defer cancel()
		defer in.Body.Close()
		t.s.serveHTTP(w, in)
		w.WriteHeader(http.StatusOK)
		body.finish()
	}()
	select {
	case <-w.begun:
	case <-r.Context().Done():
		cancel()
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.code), StatusCode: w.code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: body, ContentLength: -1, Request: r,
	}, nil
}

// An answer is the ResponseWriter of an in-process request.
type answer struct {
	header http.Header
	sent   http.Header // the header as it was when the answer began
	code   int
	body   *pipe
	once   sync.Once
	begun  chan struct{}
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	a.once.Do(func() {
		a.code, a.sent = code, a.header.Clone()
		close(a.begun)
	})
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// Flush has nothing to do: what is written can be read.
func (a *answer) Flush() { a.WriteHeader(http.StatusOK) }

// pipeLimit is how much may wait for a reader before the writer must.
const pipeLimit = 256 << 10

// A pipe holds what was written until it is read. Unlike io.Pipe it lets the
// writer go ahead, so that a watch costs no hand-over per event.
type pipe struct {
	cancel context.CancelFunc

	mu    sync.Mutex // guards the fields below
	cond  sync.Cond
	buf   []byte
	off   int
	done  bool // the writer has finished
	close bool // the reader has gone
}

var errReaderGone = errors.New("the client has gone")

func newPipe(cancel context.CancelFunc) *pipe {
	p := &pipe{cancel: cancel}
	p.cond.L = &p.mu
	return p
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buf)-p.off > pipeLimit && !p.close {
		p.cond.Wait()
	}
	if p.close {
		return 0, errReaderGone
	}
	p.buf = append(p.buf, b...)
	p.cond.Broadcast()
	return len(b), nil
}

func (p *pipe) finish() {
	p.mu.Lock()
	p.done = true
	p.cond.Broadcast()
	p.mu.Unlock()
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.off == len(p.buf) && !p.done && !p.close {
		p.cond.Wait()
	}
	switch {
	case p.close:
		return 0, http.ErrBodyReadAfterClose
	case p.off == len(p.buf):
		return 0, io.EOF
	}
	n := copy(b, p.buf[p.off:])
	p.off += n
	if p.off == len(p.buf) {
		p.off = 0
		if cap(p.buf) > pipeLimit {
			p.buf = nil // a large list does not stay
		} else {
			p.buf = p.buf[:0]
		}
	}
	p.cond.Broadcast()
	return n, nil
}

func (p *pipe) Close() error {
	p.cancel()
	p.mu.Lock()
	p.close = true
	p.buf, p.off = nil, 0
	p.cond.Broadcast()
	p.mu.Unlock()
	return nil
}
