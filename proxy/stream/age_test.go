package stream

import (
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/listen"
)

// Connections that came together do not end together, where the configuration says so: each has its own share of the jitter, and
// keeps it.
func TestAgesDiffer(t *testing.T) {
	m := &manager{cfg: &Config{DrainTimeout: time.Second, DrainJitter: 0.5}}
	least, most := time.Hour, time.Duration(0)
	for id := range uint64(1000) {
		l := &link{m: m, conn: &listen.Conn{ID: id}}
		d := l.drainTime()
		if d < time.Second || d > 1500*time.Millisecond || d != l.drainTime() {
			t.Fatalf("connection %d has %v, then %v; want 1 s to 1.5 s, always the same", id, d, l.drainTime())
		}
		if a := l.longer(10*time.Second, 1); a < 10*time.Second || a > 20*time.Second {
			t.Fatalf("connection %d may be %v old, want 10 s to 20 s", id, a)
		}
		least, most = min(least, d), max(most, d)
	}
	if least > 1050*time.Millisecond || most < 1450*time.Millisecond {
		t.Errorf("all end within %v to %v, want them all over the time", least, most)
	}
	if d := (&link{m: &manager{cfg: &Config{DrainTimeout: time.Second}}, conn: &listen.Conn{ID: 7}}).drainTime(); d != time.Second {
		t.Errorf("without jitter it is %v, want 1 s", d)
	}
}
