package cluster

import "sync"

// A Mourner is told when the host of its connection is found to be of no use, by health checks or outlier detection.
type Mourner interface {
	// HostFailed is called on any goroutine, with locks held: it must return at once.
	HostFailed()
}

// mourners are those of one host.
type mourners struct {
	mu   sync.Mutex
	open map[Mourner]struct{}
}

// Mourn has m told of the host's next failures, until [State.Forget].
func (s *State) Mourn(m Mourner) {
	s.mourners.mu.Lock()
	defer s.mourners.mu.Unlock()
	if s.mourners.open == nil {
		s.mourners.open = map[Mourner]struct{}{}
	}
	s.mourners.open[m] = struct{}{}
}

// Forget ends it.
func (s *State) Forget(m Mourner) {
	s.mourners.mu.Lock()
	defer s.mourners.mu.Unlock()
	delete(s.mourners.open, m)
}

// failed notes that the host is of no use, and tells.
func (s *State) failed() {
	s.failures.Add(1)
	s.mourners.mu.Lock()
	defer s.mourners.mu.Unlock()
	for m := range s.mourners.open {
		m.HostFailed()
	}
}
