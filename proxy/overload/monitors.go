package overload

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/base/file"
)

// An Injected is the monitor injected_resource: its pressure stands in a file, so that tests can set it.
type Injected struct{ Path string }

// Pressure reads the file.
func (i Injected) Pressure() (float64, error) {
	text, err := file.Read(i.Path, 1<<10)
	if err != nil {
		return 0, err
	}
	p, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	if err != nil || !(p >= 0 && p <= 1) {
		return 0, fmt.Errorf("%s: found %q, want a number from 0 to 1", i.Path, text)
	}
	return p, nil
}

// Open is the monitor global_downstream_max_connections.
type Open struct {
	Count func() int64
	Max   int64
}

// Pressure is the part of the connections that may be open.
func (o Open) Pressure() (float64, error) { return float64(o.Count()) / float64(o.Max), nil }

// A Heap is the monitor fixed_heap. The heap is what the runtime has of the system and uses: objects, the garbage among
// them that has not been collected, stacks, and what the runtime needs for itself. Free pages that can be used again are
// none of it, as in Envoy.
type Heap struct {
	Max uint64
	// Reserve is memory that is accounted for and not there; see app/proxy.
	Reserve uint64
}

// Pressure is the part of Max in use.
func (h Heap) Pressure() (float64, error) {
	u := Memory()
	return float64(max(u.Used, h.Reserve)-h.Reserve) / float64(h.Max), nil
}

// A Usage is what the runtime has of the system's memory.
type Usage struct{ Used, Free uint64 }

// Memory asks the runtime, which costs microseconds and stops nothing.
func Memory() Usage {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(s)
	free := s[2].Value.Uint64()
	return Usage{Used: s[0].Value.Uint64() - s[1].Value.Uint64() - free, Free: free}
}

// A Cgroup is the monitor cgroup_memory.
type Cgroup struct {
	Root string // where the control group's files are
	Max  uint64 // bounds the group's own limit; 0: does not
}

// CgroupRoot is where a container sees its own control group.
const CgroupRoot = "/sys/fs/cgroup"

var errNoCgroup = errors.New("there is no control group of memory")

// Pressure is the part of its limit that the control group uses.
func (c Cgroup) Pressure() (float64, error) {
	used, limit, err := c.read()
	if err != nil {
		return 0, err
	}
	if c.Max > 0 {
		limit = min(limit, c.Max)
	}
	return float64(used) / float64(limit), nil
}

// read knows both versions of control groups.
func (c Cgroup) read() (used, limit uint64, err error) {
	for _, files := range [][2]string{{"memory.current", "memory.max"}, {"memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes"}} {
		used, err = readNumber(c.Root + "/" + files[0])
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			limit, err = readNumber(c.Root + "/" + files[1])
		}
		return used, limit, err
	}
	return 0, 0, errNoCgroup
}

// Available reports why there is nothing to be read; nil: there is.
func (c Cgroup) Available() error {
	_, _, err := c.read()
	return err
}

// Limit is what the process may use: the least limit of its control group and of those above it. groups is
// what proc_self_cgroup(5) says of them; false: as much as it likes.
func Limit(root, groups string) (uint64, bool) {
	limit := uint64(unlimited)
	look := func(dir, at, file string) {
		for {
			if n, err := readNumber(path.Join(dir, at, file)); err == nil {
				limit = min(limit, n)
			}
			if at == "/" || at == "." {
				return
			}
			at = path.Dir(at)
		}
	}
	for l := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(l), ":", 3)
		switch {
		case len(f) != 3:
		case f[0] == "0" && f[1] == "":
			look(root, path.Clean("/"+f[2]), "memory.max")
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			look(root+"/memory", path.Clean("/"+f[2]), "memory.limit_in_bytes")
		}
	}
	return limit, limit < unlimited
}

// unlimited is, in either version, what no machine has.
const unlimited = 1 << 60

// readNumber reads a file of one number, of which "max" is the largest.
func readNumber(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	t := strings.TrimSpace(string(text))
	if t == "max" {
		return unlimited, nil
	}
	n, err := strconv.ParseUint(t, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: found %q, want a number", path, t)
	}
	return n, nil
}
