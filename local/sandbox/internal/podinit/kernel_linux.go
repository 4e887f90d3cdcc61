package podinit

import (
	"errors"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What the kernel shows and a container must not change or see. Where root runs
// malla, a container's user 0 is the machine's root without its capabilities, to
// whom the kernel's files belong like any other: modes keep nobody out. The lists
// are those of container engines, and the memory maps and serial numbers that
// only root may read.
var (
	procReadOnly = []string{"sys", "sysrq-trigger", "irq", "bus", "fs"}
	procHidden   = []string{
		"acpi", "asound", "scsi", "driver", "kcore", "keys", "kmsg", "latency_stats", "timer_list", "timer_stats", "sched_debug",
		"iomem", "ioports", "vmallocinfo", "slabinfo", "pagetypeinfo", "kpagecount", "kpageflags", "kpagecgroup", "kallsyms", "mtrr",
	}
	sysHidden = []string{
		"firmware", "devices/virtual/dmi", "devices/virtual/powercap", "kernel/debug", "kernel/tracing", "kernel/security", "kernel/config",
		"fs/bpf", "fs/pstore", "fs/selinux", "hypervisor",
	}
)

// kernel mounts /proc and /sys.
func (r *rooter) kernel() error {
	proc := r.root + "/proc"
	if err := mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return err
	}
	for _, name := range procReadOnly {
		p := proc + "/" + name
		if _, err := os.Lstat(p); err != nil {
			continue
		}
		if err := mount(p, p, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := lock(unix.AT_FDCWD, p, unix.MOUNT_ATTR_RDONLY); err != nil {
			return err
		}
	}
	for _, name := range procHidden {
		if err := cover(proc+"/"+name, r.root+"/dev/null"); err != nil {
			return err
		}
	}
	if err := r.sys(); err != nil {
		return err
	}
	for _, name := range sysHidden {
		if err := cover(r.root+"/sys/"+name, r.root+"/dev/null"); err != nil {
			return err
		}
	}
	return nil
}

// sys shows the devices of the pod's network, and the kernel's other files.
func (r *rooter) sys() error {
	sys := r.root + "/sys"
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY
	if mount("sysfs", sys, "sysfs", flags, "") == nil {
		return nil
	}
	// Some container engines hide parts of /sys, and then the kernel shows no new
	// one. The old one has other network devices; few programs look.
	if mount("/sys", sys, "", unix.MS_BIND|unix.MS_REC, "") == nil {
		return lock(unix.AT_FDCWD, sys, unix.MOUNT_ATTR_RDONLY)
	}
	return nil
}

// cover hides a file behind null, or a directory behind an empty one, if it is there.
func cover(p, null string) error {
	info, err := os.Lstat(p)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && info.Mode()&os.ModeSymlink != 0:
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return mount("tmpfs", p, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=4k,mode=0555")
	}
	return mount(null, p, "", unix.MS_BIND, "")
}

// hide covers what no container may see of the machine, wherever a mount or a
// system directory would show it.
func (r *rooter) hide() error {
	for _, p := range r.pod.Hidden {
		for _, seen := range r.places(p) {
			if err := cover(seen, "/dev/null"); err != nil {
				return err
			}
		}
	}
	return nil
}

// places are where a path of the machine would be in the container.
func (r *rooter) places(p string) []string {
	var out []string
	for _, dir := range r.pod.SystemDirs { // which keep their paths
		if rel, err := filepath.Rel(dir, p); err == nil && filepath.IsLocal(rel) {
			out = append(out, p)
			break
		}
	}
	for _, m := range r.c.Mounts {
		if rel, err := filepath.Rel(m.Source, p); err == nil && filepath.IsLocal(rel) {
			out = append(out, path.Join(m.Path, rel))
		}
	}
	return out
}
