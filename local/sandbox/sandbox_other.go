//go:build !linux

package sandbox

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/mallamesh/malla/local/router"
)

var errLinux = errors.New("a local mesh needs Linux")

// Role finds no role on this system.
func Role([]string) (func() int, bool) { return nil, false }

// Probe says that Linux is needed.
func Probe() []Finding {
	return []Finding{{Operation: "run pods on this machine", Err: errLinux, Fix: "use a Linux machine or a virtual machine with Linux"}}
}

// StartSupervisor needs Linux.
func StartSupervisor(context.Context, []string, []*os.File) (*exec.Cmd, error) { return nil, errLinux }

// EnterSupervisor needs Linux.
func EnterSupervisor() error { return errLinux }

// A Runtime needs Linux.
type Runtime struct{}

// New needs Linux.
func New(string, *router.Router, *slog.Logger, ...string) (*Runtime, error) { return nil, errLinux }

// Create needs Linux.
func (*Runtime) Create(context.Context, PodSpec) (*Pod, error) { return nil, errLinux }

// Close does nothing.
func (*Runtime) Close() error { return nil }

// A Pod needs Linux.
type Pod struct{}

// Dir is empty.
func (*Pod) Dir() string { return "" }

// Start needs Linux.
func (*Pod) Start(context.Context, ContainerSpec) (*Process, error) { return nil, errLinux }

// Exec needs Linux.
func (*Pod) Exec(context.Context, string, ExecSpec) (*Process, error) { return nil, errLinux }

// Dial needs Linux.
func (*Pod) Dial(context.Context, string, string) (net.Conn, error) { return nil, errLinux }

// Stop needs Linux.
func (*Pod) Stop(time.Duration) error { return errLinux }

// Kill does nothing.
func (*Pod) Kill() {}

// Done is nil.
func (*Pod) Done() <-chan struct{} { return nil }

// A Process needs Linux.
type Process struct{}

// Pid is 0.
func (*Process) Pid() int { return 0 }

// Stdin is nil.
func (*Process) Stdin() io.WriteCloser { return nil }

// Resize does nothing.
func (*Process) Resize(TerminalSize) error { return errLinux }

// Signal does nothing.
func (*Process) Signal(os.Signal) error { return errLinux }

// Wait returns at once.
func (*Process) Wait() ExitStatus { return ExitStatus{} }

// Done is nil.
func (*Process) Done() <-chan struct{} { return nil }
