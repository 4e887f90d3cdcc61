package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/mallamesh/malla/local/sandbox/internal/podinit"
	"golang.org/x/sys/unix"
)

// envLive tells the supervisor which descriptor ends with its parent.
const envLive = "MALLA_SUPERVISOR_LIVE_FD"

// Role returns the stage that a command line asks for: "malla local pod-init"
// and what [Probe] runs. It allocates nothing and knows no flags. A binary that
// links this package runs these stages by itself before main (see podinit);
// asking is for those that want to be explicit.
func Role(argv []string) (run func() int, ok bool) {
	if len(argv) > 2 && argv[1] == probeArgs[0] && argv[2] == probeArgs[1] {
		return probeMain, true
	}
	return podinit.Role(argv)
}

// StartSupervisor runs our own executable with argv (argv[0] is only a name) as
// process 1 of fresh namespaces. extraFiles are its descriptors 3, 4, ...; its
// output is the caller's. It works for root and for an ordinary user, whose id
// keeps its number inside, and also if the executable has been deleted.
//
// The supervisor is killed when ctx is done, when the caller's process ends in
// whatever way, or by the caller; everything below it goes with it. The caller
// owns the command and must Wait for it.
func StartSupervisor(ctx context.Context, argv []string, extraFiles []*os.File) (*exec.Cmd, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer read.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = argv
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = append(append([]*os.File(nil), extraFiles...), read)
	cmd.Env = append(os.Environ(), envLive+"="+strconv.Itoa(3+len(extraFiles)))
	cmd.SysProcAttr = namespaced()
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	// The terminal's Ctrl-C is the parent's, who ends us in order.
	cmd.SysProcAttr.Setpgid = true

	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that forked ends, so that
		// thread stays as long as the process: it is locked and never released.
		runtime.LockOSThread()
		started <- cmd.Start()
		// Holding the other end of the pipe is this goroutine's only task.
		select {}
	}()
	if err := <-started; err != nil {
		write.Close()
		return nil, fmt.Errorf("start the supervisor in its namespaces: %w", err)
	}
	keep(write)
	return cmd, nil
}

// kept holds the pipes that supervisors watch: they must close with the process
// and not when the garbage collector finds them unused.
var kept = make(chan *os.File, 1024)

func keep(f *os.File) {
	select {
	case kept <- f:
	default: // more supervisors than any program starts
	}
}

// namespaced are the attributes of a process in namespaces of its own, with all
// capabilities there. Ids keep their numbers: a file that is the caller's stays
// so, and programs find the user they expect. An ordinary user may map nobody
// else; root maps everybody, so that programs which start as root can become
// somebody else, as in a container.
func namespaced() *syscall.SysProcAttr {
	uid, gid := os.Getuid(), os.Getgid()
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID |
			unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
	}
	if uid != 0 {
		// Only user 0 keeps capabilities over exec without help.
		for c := uintptr(0); c <= lastCap(); c++ {
			attr.AmbientCaps = append(attr.AmbientCaps, c)
		}
		return attr
	}
	uids, gids := allIDs("/proc/self/uid_map"), allIDs("/proc/self/gid_map")
	if hasCap(unix.CAP_SETUID) && hasCap(unix.CAP_SETGID) && uids != nil && gids != nil {
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = uids, gids, true
	}
	return attr
}

// allIDs are the ids that exist around us, each mapped to itself.
func allIDs(mapFile string) []syscall.SysProcIDMap {
	b, err := os.ReadFile(mapFile)
	if err != nil {
		return nil
	}
	var out []syscall.SysProcIDMap
	for line := range strings.Lines(string(b)) {
		var first, outside, size int
		if n, _ := fmt.Sscan(line, &first, &outside, &size); n == 3 {
			out = append(out, syscall.SysProcIDMap{ContainerID: first, HostID: first, Size: size})
		}
	}
	return out
}

func hasCap(c uint) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	return unix.Capget(&hdr, &caps[0]) == nil && caps[c/32].Effective&(1<<(c%32)) != 0
}

func lastCap() uintptr {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return uintptr(n)
		}
	}
	return unix.CAP_LAST_CAP
}

// EnterSupervisor is what the process that StartSupervisor started does first:
// it makes its mounts private, mounts its own /proc, and sees to it that it
// ends with its parent. It fails if the process is not such a one.
func EnterSupervisor() error {
	fd, err := strconv.Atoi(os.Getenv(envLive))
	if err != nil || os.Getpid() != 1 {
		return errors.New("this is a part of malla up and does not run by itself")
	}
	os.Unsetenv(envLive)
	unix.CloseOnExec(fd)
	live := os.NewFile(uintptr(fd), "parent")
	go func() {
		_, _ = io.Copy(io.Discard, live)
		os.Exit(1) // as process 1: everything below goes
	}()
	unix.Umask(0o022)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Sethostname([]byte("malla")); err != nil {
		slog.Debug("set host name", "error", err)
	}
	return nil
}
