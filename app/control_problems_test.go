package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A problem is told once for as long as it lasts, and one that something to come may
// mend only when nothing came.
func TestProblemsAreToldOnce(t *testing.T) {
	const settleFor = 3 * time.Second
	var out bytes.Buffer
	p := problems{log: slog.New(slog.NewTextHandler(&out, nil))}
	at := time.Unix(0, 0)
	for _, step := range []struct {
		after time.Duration
		list  []problem
		told  int
		again time.Duration
	}{
		{0, []problem{{text: "wrong"}, {text: "no host", waits: settleFor}}, 1, settleFor},
		{time.Second, []problem{{text: "wrong"}, {text: "no host", waits: settleFor}}, 0, settleFor - time.Second},
		{time.Second, []problem{{text: "wrong"}}, 0, 0}, // the host came
		{time.Second, []problem{{text: "no host", waits: settleFor}, {text: "no host", waits: settleFor}}, 0, settleFor},
		{settleFor, []problem{{text: "no host", waits: settleFor}, {text: "wrong"}}, 2, 0}, // nothing came; and it is wrong once more
		{time.Hour, []problem{{text: "no host", waits: settleFor}, {text: "wrong"}}, 0, 0},
	} {
		out.Reset()
		at = at.Add(step.after)
		again := p.set(step.list, at)
		if n := strings.Count(out.String(), "\n"); n != step.told || again != step.again {
			t.Errorf("at %v: told %d, again in %v; want %d, %v:\n%s", at.Sub(time.Unix(0, 0)), n, again, step.told, step.again, out.String())
		}
	}
}
