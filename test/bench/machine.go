package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// A machine is where and when a run took place.
type machine struct {
	cpu, kernel, commit, date string
	cores                     int
}

func (m machine) String() string {
	return fmt.Sprintf("%d cores of %s, Linux %s, %s, malla at %s, %s.", m.cores, m.cpu, m.kernel, runtime.Version(), m.commit, m.date)
}

func thisMachine() machine {
	text, _ := os.ReadFile("/proc/cpuinfo")
	return machine{
		cpu:    cpuModel(string(text)),
		kernel: said("uname", "-r"),
		commit: commit(os.Getenv("MALLA_BIN")),
		date:   time.Now().UTC().Format("2006-01-02"),
		cores:  runtime.NumCPU(),
	}
}

// commit is what the binary under test says it was built from, or, where the bench
// builds it, what the working tree is at.
func commit(bin string) string {
	if bin == "" {
		return said("git", "describe", "--tags", "--always", "--dirty")
	}
	return strings.TrimPrefix(said(bin, "version"), "malla ")
}

// cpuModel finds the processor's name in /proc/cpuinfo; not all architectures
// tell one.
func cpuModel(cpuinfo string) string {
	for l := range strings.Lines(cpuinfo) {
		if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unnamed " + runtime.GOARCH + " processor"
}

// said is the first line that a command prints.
func said(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(text))
	if len(f) < 3 {
		return "unknown"
	}
	return strings.Join(f[:3], " ")
}
