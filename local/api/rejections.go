package api

import (
	"sync"

	"github.com/mallamesh/malla/config/kind"
)

// A Rejection is a document that could not be applied. People see it where they
// look for the object: in the STATUS column of `malla get`.
type Rejection struct {
	Kind            *kind.Kind
	Namespace, Name string
	Source          string // "file:line"
	Message         string // what is wrong, without Source
}

type rejections struct {
	mu   sync.Mutex
	list []Rejection
}

// Reject records a rejection. It replaces an earlier one of the same object and source.
func (s *Server) Reject(r Rejection) {
	s.reject.mu.Lock()
	defer s.reject.mu.Unlock()
	for i, have := range s.reject.list {
		if have.Kind == r.Kind && have.Namespace == r.Namespace && have.Name == r.Name && have.file() == r.file() {
			s.reject.list[i] = r
			return
		}
	}
	s.reject.list = append(s.reject.list, r)
}

// ClearRejections forgets the rejections whose source is source, or lies in the file source.
func (s *Server) ClearRejections(source string) {
	s.reject.mu.Lock()
	defer s.reject.mu.Unlock()
	kept := s.reject.list[:0]
	for _, r := range s.reject.list {
		if r.Source != source && r.file() != source {
			kept = append(kept, r)
		}
	}
	clear(s.reject.list[len(kept):])
	s.reject.list = kept
}

// file is the source without its line.
func (r Rejection) file() string {
	for i := len(r.Source) - 1; i >= 0; i-- {
		switch c := r.Source[i]; {
		case c == ':' && i < len(r.Source)-1:
			return r.Source[:i]
		case c < '0' || c > '9':
			return r.Source
		}
	}
	return r.Source
}

// of returns the rejections of a kind, in a namespace or ("") in all.
func (r *rejections) of(res *resource, namespace string) []Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Rejection
	for _, have := range r.list {
		if have.Kind == res.Kind && (namespace == "" || have.Namespace == namespace) {
			out = append(out, have)
		}
	}
	return out
}
