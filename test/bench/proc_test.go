package main

import (
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

func TestProcessorTime(t *testing.T) {
	for _, c := range []struct {
		why, stat string
		want      time.Duration
	}{
		{"user, system and both of children that were waited for",
			"42 (malla) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 2 1 20 0 9 0 1000 0 0", 150 * time.Millisecond},
		{"a name may hold what looks like fields",
			"42 (a) R 9 9 (b) S 1 42 42 0 -1 4194304 100 0 0 0 1 0 0 0 20 0 9 0 1000 0 0", 10 * time.Millisecond},
	} {
		if got, err := processorTime(c.stat); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", c.why, got, err, c.want)
		}
	}
	for why, stat := range map[string]string{
		"empty": "", "cut short": "42 (malla) S 1 42", "no number": "42 (malla) S 1 42 42 0 -1 4194304 100 0 0 0 x 5 2 1 20",
	} {
		if got, err := processorTime(stat); err == nil {
			t.Errorf("%s: %v and no error", why, got)
		}
	}
}

func TestBelow(t *testing.T) {
	all := []mesh.Process{{PID: 5, Parent: 4}, {PID: 2, Parent: 1}, {PID: 4, Parent: 2}, {PID: 3, Parent: 1}, {PID: 9, Parent: 3}}
	var got []int
	for _, p := range below(2, all) {
		got = append(got, p.PID)
	}
	if len(got) != 3 || got[0] != 2 || got[1] != 4 || got[2] != 5 {
		t.Errorf("below 2: %v, want 2 4 5: grandchildren belong to it, its sister does not", got)
	}
}

func TestByRole(t *testing.T) {
	tree := []mesh.Process{
		{PID: 1, Args: []string{"malla", "--mesh", "bench", "up"}},
		{PID: 2, Args: []string{"malla", "local", "supervise"}},
		{PID: 3, Args: []string{"/malla", "proxy", "run", "--type", "sidecar"}},
		{PID: 4, Args: []string{"/malla", "sample", "details"}},
	}
	groups := byRole(tree)
	for role, pid := range map[string]int{"the rest": 1, "supervisor": 2, "proxies": 3, "applications": 4} {
		if g := groups[role]; len(g) != 1 || g[0].PID != pid {
			t.Errorf("%s: %v, want process %d", role, g, pid)
		}
	}
}

func TestSightingsAreReadAsWritten(t *testing.T) {
	at := time.Unix(1700000000, 123456789)
	got, value, ok := parseSighting(formatSighting(at, "17"))
	if !ok || !got.Equal(at) || value != "17" {
		t.Errorf("found %v %q %v, want %v and 17", got, value, ok, at)
	}
	for _, bad := range []string{"", "nonsense", "1700000000"} {
		if _, _, ok := parseSighting(bad); ok {
			t.Errorf("%q is taken for a sighting", bad)
		}
	}
}
