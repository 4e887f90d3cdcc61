// Package overload watches what the proxy uses and says when it is too much.
//
// A [Manager] reads its monitors (memory, connections, processors, a file for tests) once in a while and makes of
// each resource's pressure, by triggers, the states of actions: a share of requests to refuse, times to make
// shorter, streams to reset. What shards must know they read from a [State], which is nothing but atomics and
// costs a request one load for each question; what has to be carried out is asked of a [Plane].
//
// Names, meanings and statistics are those of Envoy's overload manager. How a request is refused is proxy/stream's affair,
// which streams are the largest proxy/listen's.
package overload

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

// A Monitor tells how much of a resource is in use.
type Monitor interface {
	// Pressure is the part in use; 1 is all there is.
	Pressure() (float64, error)
}

// A Plane carries out what is more than a flag.
type Plane interface {
	// Accept stops accepting connections, or goes on.
	Accept(bool)
	// Rescale has times looked at again that have been made shorter, or are as long again.
	Rescale()
	// Reset resets streams that hold so many bytes or more, the largest first and until what they held is enough, and returns
	// how many.
	Reset(least int, enough int64) int
	// Shrink gives unused memory back to the system if there are so many bytes of it; it reports whether it has.
	Shrink(most int64) bool
}

// A Config describes a manager.
type Config struct {
	Every    time.Duration // refresh_interval; 0: 1 s
	Monitors []Named
	Actions  []Action
	Points   []ShedPoint
	// Account is the least that a stream must hold to be reset, as a power of two.
	Account uint
}

// A Named is a monitor with its name.
type Named struct {
	Name    string
	Monitor Monitor
}

// An Action is an action with its triggers.
type Action struct {
	Name     string
	Kind     Kind
	Triggers []Trigger
	Timers   map[Timer]Floor // of ReduceTimeouts

	ShrinkEvery time.Duration // of ShrinkHeap
	ShrinkAbove int64
}

// A Kind is what an action does.
type Kind int

// The kinds.
const (
	StopRequests Kind = iota
	DisableKeepAlive
	StopAccepting
	RejectConnections
	ReduceTimeouts
	ResetStreams
	ShrinkHeap
	NumKinds
)

var kindNames = [NumKinds]string{
	"stop_accepting_requests", "disable_http_keepalive", "stop_accepting_connections", "reject_incoming_connections",
	"reduce_timeouts", "reset_high_memory_stream", "shrink_heap",
}

// String is the action's name in configuration.
func (k Kind) String() string { return "envoy.overload_actions." + kindNames[k] }

// A ShedPoint is a point with its triggers.
type ShedPoint struct {
	Point    PointName
	Triggers []Trigger
}

// A Manager looks at its monitors, and has done what is to be done. It belongs to one goroutine.
type Manager struct {
	config   Config
	state    *State
	plane    Plane
	log      *slog.Logger
	stats    []*stats.Monitor
	refresh  *stats.Overload
	pressure map[string]float64
	actions  []action
	rescale  bool
	resets   *stats.ResetStreams // nil: no such action
	reset    float64
	resetBy  []Trigger
	shrunk   stats.ShrinkHeap
	shrink   float64
}

// New returns a manager. It sets what belongs to the state before shards run, and changes it when Run does.
func New(c Config, state *State, plane Plane, r *stats.Registry, log *slog.Logger) *Manager {
	if c.Every == 0 {
		c.Every = time.Second
	}
	m := &Manager{config: c, state: state, plane: plane, log: log, pressure: map[string]float64{}, refresh: &stats.Overload{}}
	r.Add("overload.", m.refresh)
	for _, n := range c.Monitors {
		st := &stats.Monitor{}
		r.Add("overload."+n.Name+".", st)
		m.stats = append(m.stats, st)
	}
	for _, a := range c.Actions {
		m.add(a, r)
	}
	for _, p := range c.Points {
		point, st := &state.Points[p.Point], &stats.ShedPoint{}
		point.stats = st
		r.Add("overload."+p.Point.String()+".", st)
		m.actions = append(m.actions, action{triggers: p.Triggers, set: func(v float64) {
			st.ScalePercent.Set(int64(float32(v) * 100)) // as Envoy, whose states are floats: 0.2 of 0.4 is half
			point.Set(v)
		}})
	}
	return m
}

func (m *Manager) add(a Action, r *stats.Registry) {
	st := &stats.OverloadAction{}
	r.Add("overload."+a.Name+".", st)
	do := m.doer(a, r)
	m.actions = append(m.actions, action{triggers: a.Triggers, set: func(v float64) {
		if saturated := int64(v); st.Active.Value() != saturated {
			st.Active.Set(saturated)
			m.log.Warn("overload", "action", a.Name, "active", v == 1, "pressure", m.pressure)
		}
		st.ScalePercent.Set(int64(float32(v) * 100)) // as Envoy, whose states are floats: 0.2 of 0.4 is half
		do(v)
	}})
}

// doer returns what an action does with its state.
func (m *Manager) doer(a Action, r *stats.Registry) func(float64) {
	switch a.Kind {
	case StopRequests:
		return m.state.Requests.Set
	case DisableKeepAlive:
		return m.state.KeepAlive.Set
	case RejectConnections:
		return m.state.Connections.Set
	case StopAccepting:
		return func(v float64) { m.plane.Accept(v < 1) }
	case ReduceTimeouts:
		for timer, floor := range a.Timers {
			m.state.Timeouts[timer].floor = floor
		}
		return func(v float64) {
			for timer := range a.Timers {
				m.state.Timeouts[timer].set(v)
			}
			m.rescale = true
		}
	case ResetStreams:
		m.resets = &stats.ResetStreams{}
		r.Add(a.Kind.String()+".", m.resets)
		m.resetBy = a.Triggers
		return func(v float64) { m.reset = v }
	}
	r.Add("overload."+a.Name+".", &m.shrunk)
	return func(v float64) { m.shrink = v }
}

// Run looks at the monitors until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	t := time.NewTicker(m.config.Every)
	defer t.Stop()
	for _, a := range m.config.Actions {
		if a.Kind == ShrinkHeap {
			shrink := time.NewTicker(a.ShrinkEvery)
			defer shrink.Stop()
			return m.loop(ctx, t.C, shrink.C, a)
		}
	}
	return m.loop(ctx, t.C, nil, Action{})
}

func (m *Manager) loop(ctx context.Context, refresh, shrink <-chan time.Time, s Action) error {
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-refresh:
			now := time.Now()
			m.refresh.RefreshIntervalDelay.Record(uint64(now.Sub(last) / time.Millisecond))
			last = now
			m.Refresh()
		case <-shrink:
			if m.shrink == 1 && m.plane.Shrink(s.ShrinkAbove) {
				m.shrunk.ShrinkCount.Inc()
			}
		}
	}
}

// Refresh looks at the monitors once.
func (m *Manager) Refresh() {
	for i, n := range m.config.Monitors {
		p, err := n.Monitor.Pressure()
		if err != nil {
			if m.stats[i].FailedUpdates.Inc(); m.stats[i].FailedUpdates.Value() == 1 {
				m.log.Warn("overload", "monitor", n.Name, "error", err)
			}
			continue
		}
		m.pressure[n.Name] = p
		m.stats[i].Pressure.Set(int64(p * 100))
	}
	for i := range m.actions {
		m.actions[i].update(m.pressure)
	}
	if m.rescale {
		m.rescale = false
		m.plane.Rescale()
	}
	if m.reset > 0 {
		m.resets.Count.Add(uint64(m.plane.Reset(m.least(), m.excess())))
	}
}

// classes is in how many sizes streams are sorted, each twice the one before.
const classes = 8

// least is how many bytes a stream holds that is to go: under light pressure only those of the largest class.
func (m *Manager) least() int {
	kept := classes - 1 - min(int(m.reset*classes), classes-1) // classes that are let live
	return 1 << (m.config.Account + uint(kept))
}

// excess is how many bytes too many there are in the eyes of the action that resets streams. Only a monitor that measures
// this process's memory can say so; by any other's pressure there are more than streams can hold. A tenth of the memory
// more is to be free: who is served again is not to bring the pressure back at once.
func (m *Manager) excess() (bytes int64) {
	for i := range m.resetBy {
		t := &m.resetBy[i]
		over := m.pressure[t.Resource] - min(t.From, t.To)
		if over < 0 {
			continue
		}
		for _, n := range m.config.Monitors {
			if n.Name != t.Resource {
				continue
			}
			h, ok := n.Monitor.(Heap)
			if !ok {
				return math.MaxInt64
			}
			bytes = max(bytes, int64((over+0.1)*float64(h.Max)))
		}
	}
	return bytes
}
