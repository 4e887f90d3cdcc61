package admin

import (
	"fmt"
	"net/http"
	"os"
	"runtime/pprof"
	"sync"
)

// A profiler records where time goes, in pprof's form, into one file.
type profiler struct {
	path string

	mu  sync.Mutex // guards out
	out *os.File   // nil: it is off
}

const (
	enableUsage = "?enable=<y|n>\n"
	noHeap      = "Heap profiles need not be asked for in advance: GET /heap_dump has one.\n"
)

// cpu serves /cpuprofiler?enable=<y|n>.
func (p *profiler) cpu(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch enable := r.URL.Query().Get("enable"); {
	case enable != "y" && enable != "n":
		fail(w, enableUsage, http.StatusBadRequest)
		return
	case enable == "y" && p.out == nil:
		f, err := os.Create(p.path)
		if err == nil {
			if err = pprof.StartCPUProfile(f); err != nil {
				_ = f.Close() // nothing is in it
			}
		}
		if err != nil {
			fail(w, fmt.Sprintf("failure to start the profiler: %v", err), http.StatusInternalServerError)
			return
		}
		p.out = f
	case enable == "n" && p.out != nil:
		pprof.StopCPUProfile()
		err := p.out.Close()
		p.out = nil
		if err != nil {
			fail(w, fmt.Sprintf("write profile %s: %v", p.path, err), http.StatusInternalServerError)
			return
		}
	}
	fmt.Fprintln(w, "OK")
}

// heapProfiler answers who would begin to record: Go always does.
func (s *Server) heapProfiler(w http.ResponseWriter, _ *http.Request) {
	fail(w, noHeap, http.StatusNotImplemented)
}

// heap serves /heap_dump, in pprof's form.
func (s *Server) heap(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	_ = pprof.Lookup("heap").WriteTo(w, 0) // the client has gone
}
