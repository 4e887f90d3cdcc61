package app

import (
	"log/slog"
	"time"
)

// A problem is something about the configuration that somebody should know.
type problem struct {
	text  string
	waits bool // an object that is still to come may mend it
}

// settleFor is how long a problem that something to come may mend must have lasted:
// people apply rules before the services that they are about, and nobody should be
// told of what was right a moment later.
const settleFor = 3 * time.Second

// problems logs each problem when it appears, and again if it comes back after it
// was mended.
type problems struct {
	log   *slog.Logger
	list  []problem            // of the newest mesh
	since map[string]time.Time // when each came up
	told  map[string]bool
}

// set replaces the problems and logs those that are due. It returns how long the
// next one must be waited for, 0 if none is to come.
func (p *problems) set(list []problem, now time.Time) (again time.Duration) {
	p.list = list
	since, told := make(map[string]time.Time, len(list)), make(map[string]bool, len(list))
	for _, x := range list {
		if _, twice := since[x.text]; twice {
			continue
		}
		came, old := p.since[x.text]
		if !old {
			came = now
		}
		since[x.text] = came
		switch wait := came.Add(settleFor).Sub(now); {
		case p.told[x.text]:
			told[x.text] = true
		case x.waits && wait > 0:
			if again == 0 || wait < again {
				again = wait
			}
		default:
			p.log.Warn("configuration", "problem", x.text)
			told[x.text] = true
		}
	}
	p.since, p.told = since, told
	return again
}
