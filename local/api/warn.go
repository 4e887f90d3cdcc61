package api

import (
	"net/http"
	"strings"
	"sync"

	"github.com/mallamesh/malla/local/api/store"
)

// warnings are what a request's answer tells in Warning headers, which kubectl
// prints to stderr. Kubernetes bounds their length likewise.
type warnings struct{ texts []string }

const (
	maxWarning  = 1 << 10
	maxWarnings = 16 << 10
)

func (ws *warnings) add(texts ...string) {
	for _, t := range texts {
		t = strings.Join(strings.Fields(t), " ")
		if len(t) > maxWarning {
			t = t[:maxWarning] + "..."
		}
		ws.texts = append(ws.texts, t)
	}
}

// write adds the headers; it must run before the status line.
func (ws *warnings) write(h http.Header) {
	total := 0
	seen := map[string]bool{}
	for _, t := range ws.texts {
		if total += len(t); seen[t] || total > maxWarnings {
			continue
		}
		seen[t] = true
		// RFC 7234, section 5.5: code, agent, quoted text. The code is 299, as Kubernetes'.
		q := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(t)
		h.Add("Warning", `299 - "`+q+`"`)
	}
}

// tellUnsaved tells who has changed something that it would not survive the mesh:
// the disk is full, for example.
func (s *Server) tellUnsaved(q *request) {
	if s.journal == nil || q.Method == http.MethodGet || q.user.name != admin.name {
		return
	}
	if err := s.journal.Err(); err != nil {
		q.warnings.add("in force, but not saved: " + err.Error() + "; it is lost if the mesh ends before there is room")
	}
}

// told remembers which object versions' notices people have seen.
type told struct {
	mu   sync.Mutex
	seen map[store.Key]string
}

// once returns o's notices, prefixed with its name, unless they were told before.
func (t *told) once(res *resource, o *store.Object) []string {
	if len(o.Notices) == 0 {
		return nil
	}
	text := strings.Join(o.Notices, "\n")
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen[o.Key] == text {
		return nil
	}
	if t.seen == nil {
		t.seen = map[store.Key]string{}
	}
	t.seen[o.Key] = text
	return about(res, o.Key.Namespace, o.Key.Name, o.Notices)
}

// about puts the object's name before what is said of it.
func about(res *resource, namespace, name string, notices []string) []string {
	if namespace != "" {
		name = namespace + "/" + name
	}
	out := make([]string, len(notices))
	for i, n := range notices {
		out[i] = res.Kind.Kind + " " + name + ": " + n
	}
	return out
}

func (t *told) forget(k store.Key) {
	t.mu.Lock()
	delete(t.seen, k)
	t.mu.Unlock()
}
