package proxy

import (
	"context"
	"time"
)

// unread warns of every key in the bootstrap's runtime that nothing reads: Envoy takes any key, and
// whoever wrote it wanted something.
func (p *parts) unread() {
	if p.boot == nil {
		return
	}
	for _, key := range p.boot.Values.Unread() {
		p.log.Warn("nothing reads this key of the runtime", "key", key)
	}
}

// tellUnread does so once, when the first configuration is there that may read them.
func (p *parts) tellUnread(ctx context.Context) error {
	if p.boot == nil || len(p.boot.Values.Unread()) == 0 {
		return nil
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, _ := p.ready(); ok {
			p.unread()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
