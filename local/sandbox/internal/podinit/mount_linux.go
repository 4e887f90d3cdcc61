package podinit

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func mount(source, target, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}

// lock sets attributes of a mount and of all mounts below it.
func lock(dirfd int, path string, set uint64) error {
	flags := uint(unix.AT_RECURSIVE)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.MountSetattr(dirfd, path, flags, &unix.MountAttr{Attr_set: set}); err != nil {
		return fmt.Errorf("set attributes of mount %s: %w", path, err)
	}
	return nil
}

func isDirectory(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// mountPoint makes an empty directory or file, unless it is there.
func mountPoint(p string, isDir bool) error {
	info, err := os.Stat(p)
	switch {
	case err == nil && info.IsDir() == isDir:
		return nil
	case err == nil && isDir:
		return fmt.Errorf("%s is a file, and a directory is to be mounted there", p)
	case err == nil:
		return fmt.Errorf("%s is a directory, and a file is to be mounted there", p)
	case isDir:
		return os.MkdirAll(p, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_CREATE|os.O_RDONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// mirrorFileLimit is the size above which a mirrored file is bound, not copied.
const mirrorFileLimit = 64 << 10

// mirror does without overlays what layer does: a tmpfs whose entries are
// upper's, merged over lower's, which are bound (directories, large files) or
// copied.
func mirror(dir, lower, upper string) error {
	const from = "/.malla/lower" // dir may be lower, and is about to be covered
	if err := os.MkdirAll(from, 0o755); err != nil {
		return err
	}
	if err := mount(lower, from, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	defer func() {
		_ = unix.Unmount(from, unix.MNT_DETACH)
		_ = os.Remove(from)
	}()
	if err := mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,"+scratch); err != nil {
		return err
	}
	return mirrorInto(dir, from, upper)
}

func mirrorInto(dir, lower, upper string) error {
	entries, err := os.ReadDir(lower)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to, over := lower+"/"+e.Name(), dir+"/"+e.Name(), upper+"/"+e.Name()
		if info, err := os.Lstat(over); err == nil {
			if !info.IsDir() || !e.IsDir() {
				continue // comes from upper alone
			}
			if err := os.Mkdir(to, 0o755); err != nil {
				return err
			}
			if err := mirrorInto(to, from, over); err != nil {
				return err
			}
			continue
		}
		if err := mirrorEntry(from, to, e.Type()); err != nil {
			return err
		}
	}
	return copyMissing(dir, upper)
}

func mirrorEntry(from, to string, mode os.FileMode) error {
	switch {
	case mode&os.ModeSymlink != 0:
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(link, to)
	case mode.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
	case mode.IsRegular():
		if info, err := os.Stat(from); err == nil && info.Size() <= mirrorFileLimit {
			if copyFile(from, to, info.Mode()) == nil {
				return nil
			}
			os.Remove(to) // not ours to read: show it, refusing to be read
		}
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return err
		}
		return mount(from, to, "", unix.MS_BIND, "")
	}
	return nil // sockets, devices
}

// copyMissing brings what only upper has.
func copyMissing(dir, upper string) error {
	entries, err := os.ReadDir(upper)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := upper+"/"+e.Name(), dir+"/"+e.Name()
		switch _, err := os.Lstat(to); {
		case err == nil: // merged already
		case e.IsDir():
			if err := os.Mkdir(to, 0o755); err != nil {
				return err
			}
			if err := copyMissing(to, from); err != nil {
				return err
			}
		default:
			if err := copyFile(from, to, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm()|0o200)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
