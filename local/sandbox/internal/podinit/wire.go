// Package podinit is process 1 of a pod: it starts containers when the
// supervisor asks, forwards signals to them and reaps what they leave.
//
// Every container has PID and mount namespaces that it shares with nobody: as in
// Kubernetes, an application sees neither its sidecar nor what the sidecar has in
// memory, and is process 1. That process begins as our executable, which builds
// the container's root, gives its privileges up for good, and execs the command:
// nothing of ours stays in memory for a container. The pod's init is its parent,
// which sends it signals (see signal_linux.go) and reaps it; the kernel then ends
// what is left in the container. A process that is added to a container (Exec) is
// forked by the pod's init, on a thread that has joined the container's
// namespaces.
//
// The supervisor and the pod's init talk over a socketpair, descriptor 3, with
// the messages of this file; so do the pod's init and a container's process 1
// until it is the command. Whoever is above goes, and the kernel ends every
// process below: a PID namespace ends with its process 1, and those inside it.
package podinit

import "syscall"

// Args are the command line (after the program's name) that makes our
// executable a pod's init.
var Args = []string{"local", "pod-init"}

// ContainerArgs are those of process 1 of a container, before it is the command.
var ContainerArgs = []string{"local", "container-init"}

// Self is where containers find our own executable.
const Self = "/malla"

// A Pod is the first message to an init.
type Pod struct {
	Hostname   string            `json:"hostname"`
	Scratch    string            `json:"scratch"`    // a directory of the init's own on a tmpfs
	SelfDir    string            `json:"selfDir"`    // holds our executable, as "malla"
	EtcDir     string            `json:"etcDir"`     // what a container sees of the machine's /etc
	Etc        map[string]string `json:"etc"`        // files of /etc that are the pod's own, by name
	SystemDirs []string          `json:"systemDirs"` // shown read-only at the same path
	Hidden     []string          `json:"hidden"`     // not shown, whatever is mounted
	Home       string            `json:"home"`
	GraceMS    int64             `json:"graceMS"`
}

// A Request is what the supervisor wants. Exactly one of the pointers is set.
type Request struct {
	ID     uint64     `json:"id"`
	Start  *Container `json:"start,omitempty"`
	Exec   *Exec      `json:"exec,omitempty"`
	Signal *Signal    `json:"signal,omitempty"`
}

// A Mount is a bind mount of Source, a path in the init's view, at Path in the container.
type Mount struct {
	Path     string `json:"path"`
	Source   string `json:"source"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// A Container is to be started; the message carries stdin, stdout and stderr,
// or nothing with TTY. Its process is known by the request's ID.
type Container struct {
	Name   string   `json:"name"`
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	Dir    string   `json:"dir"`
	Mounts []Mount  `json:"mounts"`
	Caps   []uint   `json:"caps,omitempty"` // the capabilities that it keeps
	TTY    bool     `json:"tty,omitempty"`
}

// A Birth is the message to a container's process 1, with the descriptors of the
// container. It answers with the terminal's, if there is one, and then execs; or
// with an error.
type Birth struct {
	Pod       Pod       `json:"pod"`
	Container Container `json:"container"`
}

// An Exec adds a process to a container; descriptors as for Container.
type Exec struct {
	Container string   `json:"container"`
	Argv      []string `json:"argv"`
	Env       []string `json:"env"`
	Dir       string   `json:"dir"`
	TTY       bool     `json:"tty,omitempty"`
}

// A Signal goes to the process that request ID Process started. It has no answer.
type Signal struct {
	Process uint64         `json:"process"`
	Signal  syscall.Signal `json:"signal"`
}

// A Report is what the init says: an answer (ID, with Error or Pid, and the
// terminal's descriptor if one was asked for), or an end (Exited).
type Report struct {
	ID     uint64         `json:"id"`
	Ready  bool           `json:"ready,omitempty"` // the first report
	Error  string         `json:"error,omitempty"`
	Pid    int            `json:"pid,omitempty"` // as the pod's init sees it
	Exited bool           `json:"exited,omitempty"`
	Code   int            `json:"code,omitempty"`
	Signal syscall.Signal `json:"signal,omitempty"`
}
