package admin

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/mallamesh/malla/proxy/tap/sink"
)

// maxTapRequest bounds what says what to record.
const maxTapRequest = 1 << 20

// maxBlock bounds the traces that are kept to be handed over together.
const maxBlock = 64 << 20

// pieceTimeout bounds how long a client may take for a trace.
const pieceTimeout = time.Minute

// tap serves POST /tap: what the body asks for is recorded and sent for as long as the client stays, or until the body's
// bounds are reached.
func (s *Server) tap(w http.ResponseWriter, r *http.Request) {
	refuse := func(err error) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, err.Error()) // the client has gone
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTapRequest))
	if err == nil && len(text) == 0 {
		err = errors.New("/tap requires a JSON/YAML body")
	}
	if err != nil {
		refuse(err)
		return
	}
	id, config, reader, err := s.ReadTap(text)
	if err != nil {
		refuse(err)
		return
	}
	detach, err := s.Taps.Attach(id, config)
	if err != nil {
		refuse(err)
		return
	}
	defer detach()
	if reader == nil { // into files, for as long as the client stays
		reader = sink.NewReader(sink.JSONBytes)
	}
	s.sendTraces(w, r, reader)
}

func (s *Server) sendTraces(w http.ResponseWriter, r *http.Request, reader *sink.Reader) {
	conn := http.NewResponseController(w)
	// The answer takes as long as it takes; each piece of it must be taken in time. A writer without deadlines has nobody to wait for.
	_ = conn.SetReadDeadline(time.Time{})
	flush := func() error {
		_ = conn.SetWriteDeadline(time.Now().Add(pieceTimeout))
		return conn.Flush()
	}
	if flush() != nil {
		return
	}
	var over <-chan time.Time
	if reader.Timeout > 0 {
		t := time.NewTimer(reader.Timeout)
		defer t.Stop()
		over = t.C
	}
	var block []byte
	defer func() {
		_ = conn.SetWriteDeadline(time.Now().Add(pieceTimeout))
		_, _ = w.Write(block)
	}()
	for n := uint64(0); reader.Max == 0 || n < reader.Max; n++ {
		select {
		case <-r.Context().Done():
			return
		case <-over:
			return
		case t := <-reader.Traces():
			text, err := reader.Format.Encode(t)
			if err != nil {
				continue // it holds what the format has no room for
			}
			if reader.Block {
				if len(block) > 0 && len(block)+len(text) > maxBlock {
					return // with what there is
				}
				block = append(block, text...)
				continue
			}
			_ = conn.SetWriteDeadline(time.Now().Add(pieceTimeout)) // a large one is written without a flush
			if _, err := w.Write(text); err != nil || flush() != nil {
				return
			}
		}
	}
}
