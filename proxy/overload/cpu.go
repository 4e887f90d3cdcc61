package overload

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A CPU is the monitor cpu_utilization: how busy the processors have been lately, of the machine or, as far as its
// quota goes, of the control group.
type CPU struct {
	Container bool
	Stat      string // /proc/stat
	Root      string // of the control group's files
	Clock     func() time.Duration

	read    bool
	last    spent
	average float64
}

// spent is processor time; the units do not matter.
type spent struct{ work, total float64 }

// damping is how much the latest look counts.
const damping = 0.05

// Pressure looks at what has been spent since the last time.
func (c *CPU) Pressure() (float64, error) {
	read := c.host
	if c.Container {
		read = c.container
	}
	now, err := read()
	if err != nil {
		return 0, err
	}
	before := c.last
	c.last = now
	if !c.read {
		c.read = true
		return c.average, nil
	}
	if now.total <= before.total || now.work < before.work {
		return 0, errors.New("no time has passed")
	}
	share := min(1, (now.work-before.work)/(now.total-before.total))
	c.average += damping * (share - c.average)
	return c.average, nil
}

// host reads proc_stat(5).
func (c *CPU) host() (spent, error) {
	text, err := os.ReadFile(c.Stat)
	if err != nil {
		return spent{}, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line)
	if len(f) < 5 || f[0] != "cpu" {
		return spent{}, fmt.Errorf("%s: found %q, want cpu and its times", c.Stat, line)
	}
	var t [4]float64 // user, nice, system, idle
	for i := range t {
		if t[i], err = strconv.ParseFloat(f[i+1], 64); err != nil {
			return spent{}, fmt.Errorf("%s: %w", c.Stat, err)
		}
	}
	work := t[0] + t[1] + t[2]
	return spent{work, work + t[3]}, nil
}

// container reads the control group's times, of either version, and how many processors it may use.
func (c *CPU) container() (spent, error) {
	seconds, err := c.used()
	if err != nil {
		return spent{}, err
	}
	return spent{seconds, c.quota() * c.Clock().Seconds()}, nil
}

func (c *CPU) used() (float64, error) {
	text, err := os.ReadFile(c.Root + "/cpu.stat")
	if err == nil {
		for l := range strings.Lines(string(text)) {
			if n, ok := strings.CutPrefix(l, "usage_usec "); ok {
				us, err := strconv.ParseFloat(strings.TrimSpace(n), 64)
				return us / 1e6, err
			}
		}
	}
	ns, err := readNumber(c.Root + "/cpuacct/cpuacct.usage")
	return float64(ns) / 1e9, err
}

// quota is in processors; without one, all of the machine's.
func (c *CPU) quota() float64 {
	text, err := os.ReadFile(c.Root + "/cpu.max")
	if err != nil {
		quota, err1 := readNumber(c.Root + "/cpu/cpu.cfs_quota_us")
		period, err2 := readNumber(c.Root + "/cpu/cpu.cfs_period_us")
		if err1 != nil || err2 != nil || period == 0 {
			return float64(runtime.NumCPU())
		}
		return float64(quota) / float64(period)
	}
	var quota, period float64
	if n, _ := fmt.Sscan(string(text), &quota, &period); n != 2 || period == 0 {
		return float64(runtime.NumCPU()) // "max"
	}
	return quota / period
}
