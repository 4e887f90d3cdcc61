package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
)

// runtime serves /runtime: the values of all layers, and those that count.
func (s *Server) runtime(w http.ResponseWriter, _ *http.Request) {
	type entry struct {
		Layers []string `json:"layer_values"`
		Final  string   `json:"final_value"`
	}
	out := struct {
		Layers  []string         `json:"layers"`
		Entries map[string]entry `json:"entries"`
	}{Layers: []string{}, Entries: map[string]entry{}}
	layers := s.Values.Layers()
	for i, l := range layers {
		out.Layers = append(out.Layers, l.Name)
		for key, v := range l.Values {
			e, ok := out.Entries[key]
			if !ok {
				e.Layers = make([]string, len(layers))
			}
			e.Layers[i], e.Final = v, v
			out.Entries[key] = e
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(out); err != nil {
		fail(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b.Bytes()) // the client has gone
}

// runtimeModify refuses what Envoy would do: what has been built has its values.
func (s *Server) runtimeModify(w http.ResponseWriter, _ *http.Request) {
	fail(w, "runtime values are read once, at start: write them into a static_layer of the bootstrap", http.StatusServiceUnavailable)
}

// initDump serves /init_dump: what the proxy still waits for.
func (s *Server) initDump(w http.ResponseWriter, _ *http.Request) {
	out := &adminv3.UnreadyTargetsDumps{}
	if names := s.Unready(); len(names) > 0 {
		out.UnreadyTargetsDumps = []*adminv3.UnreadyTargetsDumps_UnreadyTargetsDump{{Name: "init manager Server", TargetNames: names}}
	}
	writeJSON(w, out)
}

// resetCounters serves /reset_counters.
func (s *Server) resetCounters(w http.ResponseWriter, _ *http.Request) {
	s.Stats.ResetCounters()
	fmt.Fprintln(w, "OK")
}

// lookups serves /stats/recentlookups. Names of statistics are looked up when configuration is built, and by nobody later.
func (s *Server) lookups(w http.ResponseWriter, _ *http.Request) {
	head := "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n"
	if s.recording.Load() {
		head = "   Count Lookup\n"
	}
	_, _ = io.WriteString(w, head+"\ntotal: 0\n") // the client has gone
}

func (s *Server) recordLookups(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.recording.Store(on)
		fmt.Fprintln(w, "OK")
	}
}
