package podinit

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A rooter builds the root of one container. Its methods run in order, in the
// container's mount and PID namespaces.
type rooter struct {
	pod  *Pod
	c    *Container
	root string
	// trees are the container's mounts, detached, in the order of c.Mounts: taken
	// while their sources can still be seen.
	trees []int
}

// buildRoot makes the container's root and changes to it. The process has its
// mount and PID namespaces already: /proc shows the namespace of who mounts it.
func buildRoot(pod *Pod, c *Container) error {
	r := &rooter{pod: pod, c: c, root: pod.rootDir()}
	defer r.close()
	for _, step := range []func() error{
		r.base, r.devices, r.kernel, r.takeSources, r.pivot, r.overlays, r.volumes, r.hide, r.workDir,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *rooter) close() {
	for _, fd := range r.trees {
		unix.Close(fd)
	}
}

// scratch bounds what a container may write: its files are this machine's memory, and without a bound, half
// of that for each of them. The number of files has one too, because their names count for nothing else.
const scratch = "size=10%,nr_inodes=200k"

// base makes the tmpfs root with the machine's system directories.
func (r *rooter) base() error {
	if err := mount("tmpfs", r.root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,"+scratch); err != nil {
		return err
	}
	// Skeletons are overlays' upper layers: a second tmpfs, because an application
	// must not reach them.
	if err := mount("tmpfs", r.pod.skeletonDir(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,"+scratch); err != nil {
		return err
	}
	for _, d := range []struct {
		path string
		mode uint32
	}{
		{"/tmp", 0o1777}, {"/run", 0o755}, {"/run/lock", 0o1777}, {"/run/malla", 0o755}, {"/var", 0o755}, {"/var/tmp", 0o1777},
		{"/proc", 0o555}, {"/sys", 0o555}, {"/dev", 0o755}, {"/etc", 0o755}, {"/root", 0o700}, {"/home", 0o755}, {"/mnt", 0o755}, {"/srv", 0o755},
		{"/.malla", 0o755}, {"/.malla/skeleton", 0o700}, {"/.malla/self", 0o755},
	} {
		if err := r.mkdir(d.path, d.mode); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(r.root+r.pod.Home, 0o755); err != nil {
		return fmt.Errorf("make home directory: %w", err)
	}
	for _, dir := range r.pod.SystemDirs {
		if err := r.system(dir); err != nil {
			return err
		}
	}
	if err := mount(r.pod.SelfDir, r.root+"/.malla/self", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := lock(unix.AT_FDCWD, r.root+"/.malla/self", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID); err != nil {
		return err
	}
	if err := os.Symlink(".malla/self/malla", r.root+Self); err != nil {
		return err
	}
	return r.variable()
}

// system shows one of the machine's directories, or copies the symlink that it is.
func (r *rooter) system(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil // not on this machine
	}
	target := r.root + dir
	if info.Mode()&os.ModeSymlink != 0 {
		link, err := os.Readlink(dir)
		if err != nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.Symlink(link, target)
	}
	if !info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := mount(dir, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return lock(unix.AT_FDCWD, target, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
}

// variable fills /var with the names of the machine's directories, empty:
// programs expect their /var/log/NAME and /var/lib/NAME to be there.
func (r *rooter) variable() error {
	for _, link := range [][2]string{{"/run", "/var/run"}, {"/run/lock", "/var/lock"}} {
		if err := os.Symlink(link[0], r.root+link[1]); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/var/lib", "/var/log", "/var/cache", "/var/spool", "/var/opt"} {
		if err := r.mkdir(dir, 0o755); err != nil {
			return err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				if err := r.mkdir(dir+"/"+e.Name(), 0o755); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// devices makes /dev: device files cannot be made in a user namespace, but the
// machine's can be bound.
func (r *rooter) devices() error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		target := r.root + "/dev/" + name
		if err := os.WriteFile(target, nil, 0o644); err != nil {
			return err
		}
		if err := mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, l := range [][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
	} {
		if err := os.Symlink(l[0], r.root+"/dev/"+l[1]); err != nil {
			return err
		}
	}
	if err := r.mkdir("/dev/shm", 0o1777); err != nil {
		return err
	}
	if err := r.mkdir("/dev/pts", 0o755); err != nil {
		return err
	}
	return mount("devpts", r.root+"/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
}

// takeSources detaches copies of what the container's mounts show.
func (r *rooter) takeSources() error {
	r.nest()
	for _, m := range r.c.Mounts {
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Path, err)
		}
		r.trees = append(r.trees, fd)
		attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
		if m.ReadOnly {
			attrs |= unix.MOUNT_ATTR_RDONLY
		}
		if err := lock(fd, "", attrs); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, m.Path, err)
		}
	}
	// What is shown of the machine's /etc, for overlays to read and mirrors to copy:
	// below /.malla, which goes before the application starts.
	if err := r.mkdir("/.malla/etc", 0o755); err != nil {
		return err
	}
	if err := mount(r.pod.EtcDir, r.root+"/.malla/etc", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := lock(unix.AT_FDCWD, r.root+"/.malla/etc", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV); err != nil {
		return err
	}
	return mount(r.pod.skeletonDir(), r.root+"/.malla/skeleton", "", unix.MS_BIND, "")
}

// nest makes the mount points that lie in a read-only volume, in its source, as
// a kubelet does. Where that is not possible the mount itself says so.
func (r *rooter) nest() {
	for i, m := range r.c.Mounts {
		for j, outer := range r.c.Mounts {
			rel, inside := strings.CutPrefix(path.Clean(m.Path), path.Clean(outer.Path)+"/")
			if i == j || !inside || !outer.ReadOnly {
				continue
			}
			root, err := os.OpenRoot(outer.Source)
			if err != nil {
				continue
			}
			if info, err := os.Stat(m.Source); err == nil && info.IsDir() {
				_ = root.MkdirAll(rel, 0o755)
			} else if _, err := root.Stat(rel); err != nil {
				_ = root.MkdirAll(path.Dir(rel), 0o755)
				_ = root.WriteFile(rel, nil, 0o644)
			}
			root.Close()
		}
	}
}

// pivot makes the new root the root; the old one is gone from this namespace.
// Paths mean what the application will see from here on.
func (r *rooter) pivot() error {
	if err := unix.Chdir(r.root); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	// pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one
	// until it is taken away.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return unix.Chdir("/")
}

// overlays makes the read-only directories writable that need a new mount point
// somewhere below, and /etc, which has files of the pod's own.
func (r *rooter) overlays() error {
	points := make(map[string]map[string]bool) // directory: missing path below it, whether it is a directory
	for i, m := range r.c.Mounts {
		if p := path.Clean(m.Path); p != "/etc" && !r.insideOther(p) {
			if below, isDir, missing := r.missing(p, r.trees[i]); missing {
				if points[below] == nil {
					points[below] = make(map[string]bool)
				}
				points[below][p] = isDir
			}
		}
	}
	if err := r.layer("/etc", "/.malla/etc", points["/etc"], r.pod.Etc); err != nil {
		return err
	}
	delete(points, "/etc")
	dirs := make([]string, 0, len(points))
	for dir := range points {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs) // a directory before those below it
	for _, dir := range dirs {
		if err := r.layer(dir, dir, points[dir], nil); err != nil {
			return err
		}
	}
	// What was mounted there stays with the overlays; nobody else needs to see it.
	for _, dir := range []string{"/.malla/skeleton", "/.malla/etc"} {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}

// insideOther reports whether p lies in another mount: its mount point is made
// when that one is there.
func (r *rooter) insideOther(p string) bool {
	return slices.ContainsFunc(r.c.Mounts, func(m Mount) bool {
		return strings.HasPrefix(p, path.Clean(m.Path)+"/")
	})
}

// missing says which read-only directory stands in the way of making the mount
// point p, if any. Everything below /etc belongs to /etc's own layer.
func (r *rooter) missing(p string, tree int) (below string, isDir, missing bool) {
	isDir = isDirectory(tree)
	etc := strings.HasPrefix(p, "/etc/")
	host := p
	if etc {
		host = "/.malla" + p
	}
	if _, err := os.Stat(host); err == nil {
		return "", isDir, false
	}
	if etc {
		return "/etc", isDir, true
	}
	dir := path.Dir(p)
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			break
		}
		dir = path.Dir(dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		real = dir
	}
	var fs unix.Statfs_t
	if unix.Statfs(real, &fs) == nil && fs.Flags&unix.ST_RDONLY == 0 {
		return "", isDir, false // ours
	}
	return real, isDir, true
}

// layer puts a writable directory in the place of dir, with lower's content,
// the given files, and the given empty mount points.
func (r *rooter) layer(dir, lower string, points map[string]bool, files map[string]string) error {
	upper := "/.malla/skeleton" + dir
	work := "/.malla/skeleton/.work" + strings.ReplaceAll(dir, "/", "-")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make layer over %s: %w", dir, err)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(upper+"/"+name, []byte(text), 0o644); err != nil {
			return fmt.Errorf("make %s/%s: %w", dir, name, err)
		}
	}
	for p, isDir := range points {
		if err := mountPoint("/.malla/skeleton"+p, isDir); err != nil {
			return fmt.Errorf("make mount point %s: %w", p, err)
		}
	}
	options := "userxattr,lowerdir=" + escape(lower) + ",upperdir=" + escape(upper) + ",workdir=" + escape(work)
	if mount("overlay", dir, "overlay", unix.MS_NOSUID|unix.MS_NODEV, options) == nil {
		return nil
	}
	options = "lowerdir=" + escape(upper) + ":" + escape(lower)
	if mount("overlay", dir, "overlay", unix.MS_NOSUID|unix.MS_NODEV, options) == nil {
		return nil
	}
	// The kernel refuses an overlay over a directory with mounts in it that came
	// from outside (Docker's /etc), over two overlays, or altogether (AppArmor).
	if err := mirror(dir, lower, upper); err != nil {
		return fmt.Errorf("make layer over %s: %w", dir, err)
	}
	return nil
}

func escape(p string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(p)
}

// volumes attaches the mounts, outer ones first.
func (r *rooter) volumes() error {
	order := make([]int, len(r.c.Mounts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return strings.Compare(path.Clean(r.c.Mounts[a].Path), path.Clean(r.c.Mounts[b].Path))
	})
	for _, i := range order {
		m := r.c.Mounts[i]
		p := path.Clean(m.Path)
		if p == "/" {
			return fmt.Errorf("mount %s at /: a container's root cannot be mounted over", m.Source)
		}
		if err := mountPoint(p, isDirectory(r.trees[i])); err != nil {
			return fmt.Errorf("make mount point %s: %w", p, err)
		}
		if err := unix.MoveMount(r.trees[i], "", unix.AT_FDCWD, p, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.Source, p, err)
		}
	}
	return nil
}

// workDir makes the container's directory, as container engines do.
func (r *rooter) workDir() error {
	if r.c.Dir == "" {
		r.c.Dir = "/"
	}
	if !path.IsAbs(r.c.Dir) {
		return fmt.Errorf("working directory %q, want an absolute path", r.c.Dir)
	}
	if err := os.MkdirAll(r.c.Dir, 0o755); err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	return nil
}

func (r *rooter) mkdir(p string, mode uint32) error {
	if err := unix.Mkdir(r.root+p, 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("make directory %s: %w", p, err)
	}
	return unix.Chmod(r.root+p, mode) // whatever the umask is
}
