// Package podinit is process 1 of a pod: it starts containers when the
// supervisor asks, forwards signals to them and reaps what they leave.
//
// A container is not a re-execution of our (large) binary: a thread of this
// process leaves for a mount namespace of its own, builds the container's root
// there, gives up its privileges, and forks the application; then the thread
// ends. Attributes that Linux keeps per thread (mount namespace, root,
// capabilities, no_new_privs) make that possible, and it costs a few
// milliseconds.
//
// The supervisor and the init talk over a socketpair, descriptor 3, with the
// messages of this file. When the supervisor goes, the init goes, and with it
// the kernel ends every process of the pod.
package podinit

import "syscall"

// Args are the command line (after the program's name) that makes our
// executable a pod's init.
var Args = []string{"local", "pod-init"}

// Self is where containers find our own executable.
const Self = "/malla"

// A Pod is the first message to an init.
type Pod struct {
	Hostname   string            `json:"hostname"`
	Scratch    string            `json:"scratch"`    // a directory of the init's own on a tmpfs
	SelfDir    string            `json:"selfDir"`    // holds our executable, as "malla"
	Etc        map[string]string `json:"etc"`        // files of /etc, by name
	SystemDirs []string          `json:"systemDirs"` // shown read-only at the same path
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
	Pid    int            `json:"pid,omitempty"` // in the pod
	Exited bool           `json:"exited,omitempty"`
	Code   int            `json:"code,omitempty"`
	Signal syscall.Signal `json:"signal,omitempty"`
}
