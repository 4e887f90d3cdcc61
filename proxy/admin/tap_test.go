package admin

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/mallamesh/malla/proxy/tap"
	"github.com/mallamesh/malla/proxy/tap/sink"
)

// A tap that is to keep four billion traces until it hands them over keeps as many as there is room for.
func TestKeptTracesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := sink.NewReader(sink.Delimited)
		r.Block, r.Max = true, 4e9
		body := make([]byte, maxBlock/4)
		for range 5 {
			r.Submit(&tap.Trace{Request: tap.Message{Body: body}})
		}
		w := httptest.NewRecorder()
		New(Options{}).sendTraces(w, httptest.NewRequest("POST", "/tap", nil), r) // it would wait for ever, which synctest notices
		if n := w.Body.Len(); n > maxBlock || n < maxBlock/2 {
			t.Errorf("%d bytes are handed over, want at most %d and what fits", n, maxBlock)
		}
	})
}
