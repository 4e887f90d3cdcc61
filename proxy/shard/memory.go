package shard

import (
	"net/netip"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/pool"
)

// A Memory is a shard without sockets, whose clock the test moves; see [drive.Memory].
type Memory struct {
	*drive.Memory
	Worker *pool.Worker
	Pace   listen.Pace // of listeners that go

	one     *one
	runtime *Runtime
	sweeper sweeper
}

// NewMemory returns a shard in memory without a configuration.
func NewMemory(start time.Time) *Memory {
	net := drive.NewMemory(start)
	m := &Memory{Memory: net, runtime: &Runtime{}, Pace: listen.Pace{Time: 45 * time.Second}, one: newOne(0, net.Loop, 0, &Runtime{})}
	m.Worker = m.one.w
	m.sweeper = sweeper{loop: net.Loop, runtime: func() *Runtime { return m.runtime }}
	return m
}

// Apply puts a configuration in force.
func (m *Memory) Apply(rt *Runtime) error {
	for _, l := range rt.Listeners {
		if err := l.Check(); err != nil {
			return err
		}
	}
	m.runtime = rt
	m.sweeper.soon()
	return m.one.apply(rt, nil, m.Pace, filters(rt))
}

// Drain is [Shards.Drain].
func (m *Memory) Drain(inboundOnly bool, pace listen.Pace) { m.one.set.Drain(inboundOnly, pace) }

// Dial connects to a listener as a client at remote who has dialed local. If the
// listener asks for the original destination, local is that.
func (m *Memory) Dial(listener string, remote, local netip.AddrPort) *drive.Pipe {
	for _, l := range m.runtime.Listeners {
		if l.Name == listener && l.OriginalDst {
			return m.Memory.AcceptRedirected(remote, local, m.one.set.Accept(listener))
		}
	}
	return m.Memory.Accept(remote, local, m.one.set.Accept(listener))
}

// Serve has connections of the shard itself to an address reach one of its listeners, so that
// the proxies at both ends of a connection can be one.
func (m *Memory) Serve(addr netip.AddrPort, listener string) {
	m.Join(addr, m.one.set.Accept(listener))
}

// Open is the number of open downstream connections.
func (m *Memory) Open() int { return m.one.set.Open() }
