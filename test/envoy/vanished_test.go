//go:build linux

package envoy_test

import (
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
)

// A statistic that was last seen when the process was first asked has to be there in the end.
func TestVanishedStatistics(t *testing.T) {
	s := &side{unused: map[unused]bool{{"one", "kept"}: true, {"two", "lost"}: true}}
	s.reserve(t)
	l, err := net.Listen("tcp", s.admin())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "kept: 0\n") })}
	go server.Serve(l)
	defer server.Close()
	gone, err := s.vanished()
	if want := []unused{{"two", "lost"}}; err != nil || !slices.Equal(gone, want) {
		t.Errorf("%v have vanished (%v), want %v", gone, err, want)
	}
}
