package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// mirrorRounds is how many rounds of four turns tell a difference of a percent.
const mirrorRounds = 21

// mirror measures what the second size costs more than the first, where that is little. Both are one process, so that all but what
// is asked for is the same; a round is a turn of each and then the same backwards (A B B A, the next one B A A B), so that neither a
// machine that becomes slower nor who comes first makes a difference, and its value is the mean of the two turns. Proxies have a
// processor of their own if there is one to spare.
func (b *bench) mirror(c *contest) {
	for _, name := range c.peers {
		pair := []*contestant{c.get(name, 0), c.get(name, 1)}
		if pair[0] == nil || pair[1] == nil {
			continue
		}
		rounds := b.rounds(mirrorRounds, 2)
		if name != malla {
			rounds = b.rounds(3, 1) // for the table: nothing is promised of them
		}
		pair[0].server = pair[0].start()
		pair[1].server, pair[1].ports = pair[0].server, pair[0].ports
		for _, x := range pair {
			x.warm(b, c.workload, 0)
		}
		unpin := b.apart(c, pair[:1])
		for round := range rounds {
			var got [2]sample
			for turn := range 4 {
				i := [4]int{0, 1, 1, 0}[turn] ^ round&1
				s := c.load.run(b, c.workload, pair[i], b.seconds(c.workload))
				if got[i] == nil {
					got[i] = s
					continue
				}
				for m, v := range s {
					got[i][m] = (got[i][m] + v) / 2
				}
			}
			for i, x := range pair {
				for m, v := range got[i] {
					x.got[m] = append(x.got[m], v)
				}
			}
			b.Logf("  %d/%d %-12s %s: %s  %s: %s  ratio %.3f", round+1, rounds, name, c.sizeName(0), got[0], c.sizeName(1), got[1], got[1][cpu]/got[0][cpu])
		}
		unpin()
		pair[0].server.stop()
	}
}

// apart gives the last processor to some proxies and the others to everybody else, until it is undone.
func (b *bench) apart(c *contest, proxies []*contestant) (undo func()) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < 2 {
		return func() {}
	}
	last := len(all)*64 - 1
	for !all.IsSet(last) {
		last--
	}
	var own unix.CPUSet
	own.Set(last)
	others := all
	others.Clear(last)
	for _, x := range proxies {
		for _, p := range x.server.tree() {
			pin(p.PID, &own)
		}
	}
	for _, p := range c.behind.tree() {
		pin(p.PID, &others)
	}
	pin(os.Getpid(), &others) // and so the load, which it starts
	return func() { pin(os.Getpid(), &all) }
}

// pin has all threads of a process run on some processors. Threads, and processes, that they begin do as they do.
func pin(pid int, on *unix.CPUSet) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.SchedSetaffinity(tid, on) // one that has just ended needs none
		}
	}
}

// between is where the median of what a series is drawn from lies, with 95 of 100 (the ranks that the binomial distribution gives).
func (s series) between() (least, most float64) {
	v := slices.Sorted(slices.Values(s))
	n := len(v)
	if n == 0 {
		return 0, 0
	}
	k := max(0, int(float64(n)/2-0.98*math.Sqrt(float64(n))))
	return v[k], v[n-1-k]
}
