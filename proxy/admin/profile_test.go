package admin

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// TestCPUProfiler: a profile is in its file when it is over, and there can be one at a time.
func TestCPUProfiler(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpu.prof")
	h := New(Options{Profile: path}).Handler()
	ask := func(query string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/cpuprofiler"+query, nil))
		return w.Code
	}
	for _, test := range []struct {
		query string
		want  int
	}{
		{"", 400},
		{"?enable=maybe", 400},
		{"?enable=n", 200},
		{"?enable=y", 200},
		{"?enable=y", 200},
		{"?enable=n", 200},
	} {
		if got := ask(test.query); got != test.want {
			t.Errorf("POST /cpuprofiler%s = %d, want %d", test.query, got, test.want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("profile: %v, %v; want a file that is not empty", info, err)
	}
}
