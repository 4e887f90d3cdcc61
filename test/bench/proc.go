package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mallamesh/malla/test/script/mesh"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every
// architecture that Go runs on.
const tick = time.Second / 100

// processorTime is what /proc/PID/stat counts of a process and of those children
// that it has waited for.
func processorTime(stat string) (time.Duration, error) {
	// proc_pid_stat(5): the name in parentheses may hold anything, so what counts
	// stands after the last one: state is field 3, utime stime cutime cstime are
	// 14 to 17.
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 15 {
		return 0, fmt.Errorf("stat: found %d fields after the name, want at least 15", len(f))
	}
	var ticks int64
	for _, s := range f[11:15] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// spent is the processor time of a tree so far. A process counts by itself while
// it lives and in its parent's children when it is gone, so differences include
// those that came and went in between.
func spent(tree []mesh.Process) (sum time.Duration) {
	for _, p := range tree {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		if err != nil {
			continue // gone: its parent has it
		}
		if d, err := processorTime(string(stat)); err == nil {
			sum += d
		}
	}
	return sum
}

// burnt is the processor time of processes that wait for no children, to the
// nanosecond: rounds can be short.
func burnt(tree []mesh.Process) (sum time.Duration) {
	for _, p := range tree {
		var t unix.Timespec
		// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h, as clock_getcpuclockid(3) has it.
		if err := unix.ClockGettime(int32(^p.PID)<<3|2, &t); err == nil {
			sum += time.Duration(t.Nano())
		}
	}
	return sum
}

// resident is the memory that a tree has in RAM.
func resident(tree []mesh.Process) (bytes int64, err error) {
	for _, p := range tree {
		statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID))
		if err != nil {
			return 0, err
		}
		var size, rss int64
		if _, err := fmt.Sscan(string(statm), &size, &rss); err != nil {
			return 0, fmt.Errorf("statm: %w", err)
		}
		bytes += rss * int64(os.Getpagesize())
	}
	return bytes, nil
}

// below lists a process and all its descendants.
func below(root int, all []mesh.Process) (tree []mesh.Process) {
	for _, p := range all {
		if p.PID == root {
			tree = append(tree, p)
		}
	}
	for i := 0; i < len(tree); i++ {
		for _, p := range all {
			if p.Parent == tree[i].PID {
				tree = append(tree, p)
			}
		}
	}
	return tree
}

// roles of a mesh's processes by the first words of their command lines.
var roles = []struct {
	name  string
	words []string
}{
	{"control plane", []string{"control", "run"}},
	{"proxies", []string{"proxy", "run"}},
	{"applications", []string{"sample"}},
	{"pods' process 1", []string{"local", "pod-init"}},
	{"supervisor", []string{"local", "supervise"}},
	{"the rest", nil},
}

// byRole groups the processes of a mesh.
func byRole(tree []mesh.Process) map[string][]mesh.Process {
	groups := map[string][]mesh.Process{}
	for _, p := range tree {
		for _, r := range roles {
			if r.words == nil || p.Is(r.words...) {
				groups[r.name] = append(groups[r.name], p)
				break
			}
		}
	}
	return groups
}
