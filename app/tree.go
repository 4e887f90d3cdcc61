//go:build linux

package app

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is a process and those below it, held by descriptors: numbers may be given
// to somebody else.
type tree map[int]int // process to descriptor

// openTree holds a process and all that are below it now. What starts later is in the mesh's
// namespaces and ends with their first process, which is one of these.
func openTree(root int) tree {
	below := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // it fails for a bad pattern only
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if parent, ok := parentOf(string(text)); ok {
			below[parent] = append(below[parent], pid)
		}
	}
	t := tree{}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		pid := queue[0]
		if _, ok := t[pid]; ok {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			t[pid] = fd
		}
		queue = append(queue, below[pid]...)
	}
	return t
}

// parentOf reads the parent out of /proc/PID/stat (proc(5)): the second word after the name, which
// stands in brackets and may hold anything.
func parentOf(stat string) (int, bool) {
	words := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(words) < 2 {
		return 0, false
	}
	n, err := strconv.Atoi(words[1])
	return n, err == nil
}

// alive lists the processes that have not ended.
func (t tree) alive() (pids []int) {
	for pid, fd := range t {
		// A descriptor of a process can be read from when that has ended (pidfd_open(2)).
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(ready, 0); err != nil || n == 0 {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func (t tree) close() {
	for _, fd := range t {
		unix.Close(fd)
	}
}
