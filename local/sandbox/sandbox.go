// Package sandbox gives pods to processes of this machine: Linux namespaces
// with addresses, names and a file system of their own, without a container
// engine, without images and without root.
//
// The parts, from the outside in:
//
//   - The parent ("malla up") calls [StartSupervisor], which runs our own
//     executable as process 1 of fresh user, mount, network, PID, UTS and IPC
//     namespaces.
//   - That process, the supervisor, calls [EnterSupervisor] first, makes a
//     [router.Router] of its network namespace, and a [Runtime] with [New].
//   - [Runtime.Create] makes a [Pod]: a network namespace that is routed (not
//     bridged) to the router, capture rules, and process 1 of a PID namespace
//     (package podinit), which starts containers for us.
//   - [Pod.Start] runs a container: its command is process 1 of a PID and a mount
//     namespace of its own, below the pod's. The container's root is a tmpfs with
//     the machine's system directories bound read-only. [Pod.Exec] adds a process
//     to a running container.
//
// What it promises: nothing that a container writes reaches a file of the
// host; of the host's files it sees programs, libraries, what of /etc is
// everybody's (see etc_linux.go) and what its mounts name; it sees no other
// container's processes, its sidecar's neither; no application holds a capability over the network or can gain one, so
// it can neither change rules nor mark packets (an ordinary user's hold none at
// all, root's those that change user and owner); a death of any process here, in any order and
// by SIGKILL, leaves no process, namespace, mount or rule behind, because each
// is held by the kernel only as long as the process above it lives.
//
// What it leaves to others: which address a pod has, what is in its volumes,
// which program an image means, restarts, probes and logs on disk (local/pods).
//
// It needs Linux 5.12 or newer. [Probe] tells people what their system refuses.
package sandbox

import (
	"io"
	"net/netip"
	"syscall"
	"time"

	"github.com/mallamesh/malla/node/capture"
)

// Self is the path at which every container finds our own executable. As
// Argv[0] it starts a built-in program.
const Self = "/malla"

// A PodSpec says what a pod is before any container runs in it.
type PodSpec struct {
	Name      string
	Namespace string
	UID       string // unique among living pods; names the pod's Dir
	Hostname  string // default: Name

	// IPs are the pod's addresses, at most one of each family, from
	// router.PodCIDRs; the caller keeps them unique.
	IPs []netip.Addr

	Nameserver  []netip.Addr // for /etc/resolv.conf; default: the router's
	Search      []string     // search domains; ndots is 5, as in Kubernetes
	HostAliases map[netip.Addr][]string

	Capture     *capture.Config // nil: no interception
	GracePeriod time.Duration   // for Stop(0 or less) and for the init's own SIGTERM; default 30 s
}

// A Mount shows a file or directory in a container.
type Mount struct {
	// Path is absolute and may be anywhere: what is missing on the way is made,
	// in the container's own view only.
	Path string
	// Source is an absolute path in the supervisor's view: a file, a directory
	// or a Unix socket. The caller makes it, usually below Pod.Dir, before Start.
	Source   string
	ReadOnly bool
}

// A ContainerSpec is one container of a pod.
type ContainerSpec struct {
	Name string // unique among the running containers of the pod

	// Argv[0] is an absolute path as seen in the container, or Self.
	Argv []string
	// Env is complete except for PATH, HOME, HOSTNAME and TERM (of a TTY), which
	// are added where missing.
	Env []string
	Dir string // default "/"; made when it does not exist
	// Mounts may be nested in any order.
	Mounts []Mount

	// Sidecar keeps CAP_NET_ADMIN, for SO_MARK and transparent sockets.
	Sidecar bool

	Stdin bool // Process.Stdin is open; else the container reads /dev/null
	TTY   bool // stdin, stdout and stderr are a terminal of the container's own
	// Log receives stdout and stderr as they come, from one goroutine; it should
	// not block for long (the pipe holds 64 KB). nil discards.
	Log io.Writer
}

// An ExecSpec is one more process in a running container. It gets the
// container's environment (Env is added), directory and privileges.
type ExecSpec struct {
	Argv   []string // Argv[0] without a slash is looked up in the container's PATH
	Env    []string
	Dir    string    // default: the container's
	Stdin  io.Reader // nil: /dev/null
	Stdout io.Writer // nil: discarded
	Stderr io.Writer // nil: discarded; unused with TTY
	TTY    bool
	Resize <-chan TerminalSize // the caller may close it
}

// A TerminalSize is in characters.
type TerminalSize struct{ Width, Height uint16 }

// An ExitStatus is how a process ended. Code follows the shell: 128 + signal
// for a process that a signal ended.
type ExitStatus struct {
	Code   int
	Signal syscall.Signal // 0: it exited by itself
	// PodGone says that the status is not the process's own: the whole pod went.
	PodGone bool
}

// A Finding is one thing that malla up needs and this system refuses.
type Finding struct {
	Operation string // what was tried, for people: "create a user namespace"
	Err       error  // what the system answered
	Fix       string // the setting that would allow it, as a sentence
}

func (f Finding) String() string {
	s := f.Operation + ": " + f.Err.Error()
	if f.Fix != "" {
		s += "; " + f.Fix
	}
	return s
}
