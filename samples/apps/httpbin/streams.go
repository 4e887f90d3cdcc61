package httpbin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// The originals' bounds: ten seconds, a hundred lines, 100 KiB.
const (
	maxDelay = 10 * time.Second
	maxLines = 100
	maxBytes = 100 << 10
	maxDrip  = 10 << 20
)

// streams has the paths that take their time, or come in pieces.
func (b bin) streams(mux *http.ServeMux) {
	mux.HandleFunc("/delay/{seconds}", b.delay)
	mux.HandleFunc("GET /drip", drip)
	mux.HandleFunc("GET /stream/{n}", b.stream)
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		if n, ok := number(w, r, "n", 0, maxBytes); ok {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.Itoa(n))
			_, _ = io.CopyN(w, random(r), int64(n))
		}
	})
	mux.HandleFunc("GET /stream-bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, ok := number(w, r, "n", 0, maxBytes)
		if !ok {
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		chunk := max(query(r, "chunk_size", 10<<10), 1)
		data := random(r)
		for ; n > 0; n -= chunk {
			if _, err := io.CopyN(w, data, int64(min(n, chunk))); err != nil || flush(w) != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /sse", sse)
	mux.HandleFunc("GET /range/{n}", func(w http.ResponseWriter, r *http.Request) {
		if n, ok := number(w, r, "n", 1, maxBytes); ok {
			var text strings.Builder
			for i := range n {
				text.WriteByte(byte('a' + i%26))
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("ETag", fmt.Sprintf("\"range%d\"", n))
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text.String()))
		}
	})
	mux.HandleFunc("GET /websocket/echo", webSocketEcho)
}

func flush(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() }

// pause waits and reports whether the caller is still there.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// seconds reads a number like "1.5", or a Go duration.
func seconds(s string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil && n >= 0 {
		return time.Duration(min(n, maxDelay.Seconds()) * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("found %q, want seconds from 0 on", s)
	}
	return min(d, maxDelay), nil
}

func (b bin) delay(w http.ResponseWriter, r *http.Request) {
	d, err := seconds(r.PathValue("seconds"))
	if err != nil {
		http.Error(w, "delay: "+err.Error(), http.StatusBadRequest)
		return
	}
	if pause(r.Context(), d) {
		b.echo(false)(w, r)
	}
}

// drip sends numbytes bytes over duration seconds, after delay seconds.
func drip(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	duration, delay := 2*time.Second, time.Duration(0)
	for name, d := range map[string]*time.Duration{"duration": &duration, "delay": &delay} {
		if v := q.Get(name); v != "" {
			var err error
			if *d, err = seconds(v); err != nil {
				http.Error(w, name+": "+err.Error(), http.StatusBadRequest)
				return
			}
		}
	}
	n, code := query(r, "numbytes", 10), query(r, "code", 200)
	if n < 1 || n > maxDrip || code < 200 || code > 599 {
		http.Error(w, fmt.Sprintf("numbytes %d, code %d: want 1 to %d, and 200 to 599", n, code, maxDrip), http.StatusBadRequest)
		return
	}
	if !pause(r.Context(), delay) {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.WriteHeader(code)
	for range n {
		if _, err := io.WriteString(w, "*"); err != nil || flush(w) != nil || !pause(r.Context(), duration/time.Duration(n)) {
			return
		}
	}
}

// stream sends n lines of JSON.
func (b bin) stream(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r, "n", 1, maxLines)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	m := b.request(r)
	for i := range n {
		m["id"] = i
		line, err := json.Marshal(m)
		if err != nil {
			return
		}
		if _, err := w.Write(append(line, '\n')); err != nil || flush(w) != nil {
			return
		}
	}
}

// sse sends count events, duration seconds long.
func sse(w http.ResponseWriter, r *http.Request) {
	n := min(max(query(r, "count", 10), 1), maxLines)
	duration, err := seconds("5")
	if v := r.URL.Query().Get("duration"); v != "" {
		duration, err = seconds(v)
	}
	if err != nil {
		http.Error(w, "duration: "+err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	for i := range n {
		if _, err := fmt.Fprintf(w, "event: ping\ndata: {\"id\":%d,\"timestamp\":%d}\n\n", i, time.Now().UnixMilli()); err != nil || flush(w) != nil || !pause(r.Context(), duration/time.Duration(n)) {
			return
		}
	}
}

// random is an endless source, the same for the same seed.
func random(r *http.Request) io.Reader {
	seed := rand.Uint64()
	if s := r.URL.Query().Get("seed"); s != "" {
		seed = uint64(query(r, "seed", 0))
	}
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

var upgrader = websocket.Upgrader{
	HandshakeTimeout: 10 * time.Second,
	CheckOrigin:      func(*http.Request) bool { return true }, // there is nothing to protect here
}

// webSocketEcho sends each message back.
func webSocketEcho(w http.ResponseWriter, r *http.Request) {
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // the upgrader has answered
	}
	defer c.Close()
	c.SetReadLimit(maxBody)
	for {
		kind, message, err := c.ReadMessage()
		if err != nil {
			return
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Minute)) // never fails
		if err := c.WriteMessage(kind, message); err != nil {
			return
		}
	}
}
