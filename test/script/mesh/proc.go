package mesh

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Process is one of this machine, as /proc tells.
type Process struct {
	PID, Parent int
	Args        []string
	Start       string // ticks since boot: with PID, who it is
}

func (p Process) String() string { return fmt.Sprintf("%d %s", p.PID, strings.Join(p.Args, " ")) }

// Is reports whether the words stand in this order at the head of the command
// line, after the program's name.
func (p Process) Is(words ...string) bool {
	return len(p.Args) > len(words) && slices.Equal(p.Args[1:1+len(words)], words)
}

// Alive reports whether it is still there, and not only as a zombie. Of a process that is being
// killed, the first thread may be gone while others still hold its files and connections.
func (p Process) Alive() bool {
	now, err := readProcess(p.PID)
	return err == nil && now.Start == p.Start
}

func readProcess(pid int) (Process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, err
	}
	// The name in parentheses may hold anything; what follows the last one does not.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if fields[0] == "Z" || fields[0] == "X" {
		if threads, err := os.ReadDir(filepath.Join(dir, "task")); err != nil || len(threads) < 2 {
			return Process{}, os.ErrNotExist
		}
	}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return Process{}, err
	}
	parent, _ := strconv.Atoi(fields[1])
	return Process{pid, parent, strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"), fields[19]}, nil
}

// Processes lists all processes that are not zombies.
func Processes() []Process {
	entries, _ := os.ReadDir("/proc")
	var all []Process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, err := readProcess(pid); err == nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// Tree lists the mesh's processes: the one that holds it and all below it,
// parents before children.
func (m *Mesh) Tree() []Process {
	all, root := Processes(), m.PID()
	tree := []Process{}
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

// PSS is the memory of processes in bytes, with what they share counted once.
func PSS(processes []Process) (total int64, err error) {
	for _, p := range processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID))
		if err != nil {
			return 0, err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
				kb, _ := strconv.ParseInt(f[1], 10, 64)
				total += kb << 10
			}
		}
	}
	return total, nil
}

// CPU is the processor time that processes have used, in the kernel's ticks of
// 10 ms.
func CPU(processes []Process) (total time.Duration) {
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		if err != nil {
			continue
		}
		f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		total += time.Duration(user+system) * 10 * time.Millisecond
	}
	return total
}

var namespaceKinds = []string{"user", "mnt", "net", "pid", "uts", "ipc"}

// Namespaces are those of processes, as "net:[4026531840]".
func Namespaces(processes []Process) map[string]bool {
	set := map[string]bool{}
	for _, p := range processes {
		for _, kind := range namespaceKinds {
			if link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID, kind)); err == nil {
				set[link] = true
			}
		}
	}
	return set
}

// NamespaceOf names a process's namespace of one kind.
func NamespaceOf(pid int, kind string) string {
	link, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	return link
}

// Kill sends SIGKILL.
func Kill(p Process) error { return syscall.Kill(p.PID, syscall.SIGKILL) }
