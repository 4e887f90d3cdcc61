package admin

import (
	"net/http"
	"time"
)

const (
	maxLarge     = 4                // answers of one port that may be large, at once
	turnTimeout  = 5 * time.Second  // for which the next ones wait
	takeTimeout  = 10 * time.Second // for a piece of an answer to be taken
	largeTimeout = time.Minute      // for all of it
	pieceSize    = 64 << 10
)

// A gate lets few answers be made and sent at once: each may take tens of MiB until a client has taken it, and clients
// may be slow on purpose.
type gate chan struct{}

func newGate() gate { return make(gate, maxLarge) }

// admit has next answer when it is its turn. Who would wait too long is sent away; Envoy answers one after the other, and
// has all others wait.
func (g gate) admit(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		late := time.NewTimer(turnTimeout)
		defer late.Stop()
		select {
		case g <- struct{}{}:
		case <-late.C:
			w.Header().Set("Retry-After", "1")
			fail(w, "too many large answers are under way: try again", http.StatusServiceUnavailable)
			return
		case <-r.Context().Done():
			return
		}
		defer func() { <-g }()
		next(&paced{ResponseWriter: w, conn: http.NewResponseController(w), end: time.Now().Add(largeTimeout)}, r)
	}
}

// A paced writer has the client take each piece in time, and all of them.
type paced struct {
	http.ResponseWriter
	conn *http.ResponseController
	end  time.Time
}

// Unwrap is for [http.ResponseController].
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *paced) Write(b []byte) (n int, err error) {
	for first := true; first || len(b) > 0; first = false {
		piece := b[:min(len(b), pieceSize)]
		by := time.Now().Add(takeTimeout)
		if by.After(p.end) {
			by = p.end
		}
		_ = p.conn.SetWriteDeadline(by) // a writer without deadlines has nobody to wait for
		wrote, err := p.ResponseWriter.Write(piece)
		if n += wrote; err != nil {
			return n, err
		}
		b = b[len(piece):]
	}
	return n, nil
}
