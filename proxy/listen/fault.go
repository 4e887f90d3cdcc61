package listen

import (
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Fault is the network filter malla.filters.network.tcp_fault, which is our own: it does to connections what networks do, so that
// those who use them can be tried. What happens to a connection is decided when it comes.
type Fault struct {
	Refuse, Delay, Reset float64 // in percent of connections
	Wait                 time.Duration
	After                int // bytes, of both directions together
	Stats                *stats.TCPFault
}

func hit(w *pool.Worker, percent float64) bool {
	return percent > 0 && float64(w.Random()%1_000_000) < percent*10_000
}

// Admit refuses the connection, has it wait, or sees to its early end.
func (f *Fault) Admit(w *pool.Worker, c *Conn) bool {
	if hit(w, f.Refuse) {
		f.Stats.Refused.Inc()
		why := &access.Record{CodeDetails: "tcp_fault_refused", ClientClose: access.CloseLocalReset}
		why.ClientEnd.How = access.EndLocalReset
		why.Flags.Set(access.FaultInjected)
		c.sendAway(why)
		c.Release()
		c.Conn.Reset()
		return false
	}
	if hit(w, f.Reset) {
		f.Stats.Resets.Inc()
		c.CutAfter(f.After)
	}
	if !hit(w, f.Delay) {
		return true
	}
	f.Stats.Delayed.Inc()
	c.Pause()
	c.timer = drive.Timer{Handler: delayed{c}}
	w.Loop.Schedule(&c.timer, f.Wait)
	return false
}

const faultReset = "tcp_fault_reset"

// CutShort notes in a record that a fault of ours has reset the connection, if one has.
func (c *Conn) CutShort(r *access.Record) bool {
	if !c.Cut() {
		return false
	}
	r.Flags.Set(access.FaultInjected)
	r.CodeDetails, r.LocalClose = faultReset, faultReset
	r.ClientClose, r.ClientEnd.How = access.CloseLocalReset, access.EndLocalReset
	return true
}

// delayed is a connection that waits.
type delayed struct{ c *Conn }

func (d delayed) OnTimer(*drive.Timer) {
	d.c.Resume()
	d.c.admit()
}
