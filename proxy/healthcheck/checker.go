package healthcheck

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/stats"
)

// A Checker checks the hosts of one cluster until it is closed.
type Checker struct {
	config  *Config
	cluster *cluster.Cluster
	stats   *stats.HealthChecks
	dial    func(ctx context.Context, network, address string) (net.Conn, error)

	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu       sync.Mutex // guards what follows
	sessions map[*cluster.State]*session
	waiting  map[*cluster.State]bool // of the first round; nil: it is over
	ready    func()
}

// Start begins to check the hosts that the cluster has and will have. ready is called, by a goroutine of its own, when every
// host has had its first result.
func Start(ctx context.Context, c *cluster.Cluster, config *Config, set *stats.HealthChecks, dial func(ctx context.Context, network, address string) (net.Conn, error), ready func()) *Checker {
	k := &Checker{config: config, cluster: c, stats: set, dial: dial, sessions: map[*cluster.State]*session{}, waiting: map[*cluster.State]bool{}, ready: ready}
	k.ctx, k.cancel = context.WithCancel(ctx)
	c.OnFailCheck(k.passive)
	c.Follow(k.hosts)
	return k
}

// Close ends the checks. After it no host changes any more.
func (k *Checker) Close() {
	k.cluster.Follow(nil)
	k.cancel()
	k.all.Wait()
}

// hosts starts and ends sessions.
func (k *Checker) hosts(hosts []*cluster.Host) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return
	}
	there := make(map[*cluster.State]bool, len(hosts))
	for _, h := range hosts {
		if h.Target != nil && h.Target.Off {
			continue
		}
		there[h.State] = true
		if s := k.sessions[h.State]; s != nil {
			s.host.Store(h)
			continue
		}
		s := k.session(h)
		k.sessions[h.State] = s
		if k.waiting != nil {
			k.waiting[h.State] = true
		}
		k.all.Go(s.run)
	}
	for state, s := range k.sessions {
		if !there[state] {
			s.cancel()
			delete(k.sessions, state)
			delete(k.waiting, state)
		}
	}
	k.roundOver()
}

// roundOver tells that the first round is over, once. The caller holds mu.
func (k *Checker) roundOver() {
	if k.waiting != nil && len(k.waiting) == 0 {
		k.waiting = nil
		if k.ready != nil {
			go k.ready()
		}
	}
}

// checked notes the first result of a host.
func (k *Checker) checked(s *cluster.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.waiting, s)
	k.roundOver()
}

// passive passes on that a response of the host said that it is not well.
func (k *Checker) passive(s *cluster.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.sessions[s]; s != nil {
		select {
		case s.told <- struct{}{}:
		default: // it has been told
		}
	}
}

// tell writes what happened to a host.
func (k *Checker) tell(h *cluster.Host, events []event) {
	for _, e := range events {
		if len(k.config.Events) == 0 {
			return
		}
		line := e.appendLine(nil, k.config.Probe.kind(), k.cluster.Name, h, time.Now())
		for _, j := range k.config.Events {
			j.Append(line)
		}
	}
}

// wait is the time to the next check.
func (k *Checker) wait(passed, pending bool) time.Duration {
	c := k.config
	or := func(d, other time.Duration) time.Duration {
		if d == 0 {
			return other
		}
		return d
	}
	unhealthy := or(c.UnhealthyInterval, c.Interval)
	quiet := or(c.NoTrafficInterval, time.Minute)
	var d time.Duration
	switch used := k.cluster.Stats.UpstreamCxTotal.Value() > 0; {
	case !used && passed && !pending:
		d = or(c.NoTrafficHealthyInterval, quiet)
	case !used:
		d = quiet
	case passed && pending:
		d = or(c.HealthyEdgeInterval, c.Interval)
	case passed:
		d = c.Interval
	case pending:
		d = or(c.UnhealthyEdgeInterval, unhealthy)
	default:
		d = unhealthy
	}
	return d + some(d/100*time.Duration(c.JitterPercent)) + some(c.IntervalJitter)
}

// some is a random part of a span.
func some(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(rand.Int64N(int64(d)))
}
