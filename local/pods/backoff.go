package pods

import "time"

// backOff returns how long to wait before the n-th restart in a row: none for
// the first, then 1 s doubling to 5 min. (Kubernetes begins at 10 s; somebody
// who tries things on a laptop should not wait that long.)
func backOff(n int) time.Duration {
	if n <= 1 {
		return 0
	}
	return min(time.Second<<min(n-2, 12), 5*time.Minute)
}

// calm is how long a container or sandbox must have run for its restarts to be
// forgotten.
const calm = time.Minute

// A streak counts restarts in a row. It is not safe for concurrent use.
type streak struct{ n int }

// again returns how long to wait after a run that began at the given time.
func (s *streak) again(began time.Time) time.Duration {
	if time.Since(began) >= calm {
		s.n = 0
	}
	s.n++
	return backOff(s.n)
}
