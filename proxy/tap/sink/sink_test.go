package sink

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mallamesh/malla/proxy/tap"
)

// Nothing that a peer sends makes a trace that cannot be written.
func TestEncodeTakesAnyBytes(t *testing.T) {
	trace := &tap.Trace{Request: tap.Message{Headers: []tap.Field{{Name: "x", Value: "a\xffb"}}, Body: []byte("\xfe\x00")}}
	for f := JSONBytes; f <= Text; f++ {
		if text, err := f.Encode(trace); err != nil || len(text) == 0 {
			t.Errorf("format %d: %v", f, err)
		}
	}
	if text, _ := JSONString.Encode(trace); !strings.Contains(string(text), `"a!b"`) {
		t.Errorf("found %s, want a ! for what is no UTF-8", text)
	}
}

// Pieces of a stream are one file, in their order; when all is written no goroutine is left.
func TestFiles(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "tap")
	synctest.Test(t, func(t *testing.T) {
		f := NewFiles(prefix, JSONString, nil)
		f.Submit(&tap.Trace{ID: 7, Piece: tap.RequestBody, Request: tap.Message{Body: []byte("one")}})
		f.Submit(&tap.Trace{ID: 7, Piece: tap.ResponseBody, Response: tap.Message{Body: []byte("two")}})
		synctest.Wait()
		if f.working.Load() {
			t.Error("something works although all is written")
		}
		f.Submit(&tap.Trace{ID: 8})
	})
	text, err := os.ReadFile(prefix + "_7.json")
	if one, two := strings.Index(string(text), "one"), strings.Index(string(text), "two"); err != nil || one < 0 || two < one {
		t.Errorf("found %s, %v, want one and then two", text, err)
	}
	if _, err := os.Stat(prefix + "_8.json"); err != nil {
		t.Error(err)
	}
}

// Who does not read has some traces wait and the others left out: nobody waits for him.
func TestReaderIsBounded(t *testing.T) {
	r := NewReader(JSONBytes)
	taken := 0
	for range 3 * queued {
		if r.Submit(&tap.Trace{}) {
			taken++
		}
	}
	if n := len(r.Traces()); n != queued || taken != queued {
		t.Errorf("%d traces wait, and %d were taken, want %d", n, taken, queued)
	}
}
