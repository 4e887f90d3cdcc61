package podinit

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// signal sends a signal to a process, if it is still there.
func (in *initd) signal(id uint64, s syscall.Signal) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if p := in.byID[id]; p != nil {
		in.deliver(p, s)
	}
}

// A command that is at work is asked again, this often, a millisecond apart.
const patience = 200

// deliver sends a signal to a process that has not been reaped: in.mu is held, so
// that it never hits another with the same pid.
//
// A container's command is process 1 of its PID namespace, and to that one the
// kernel delivers what it has asked for, and SIGKILL and SIGSTOP from outside: of
// a SIGTERM that nobody handles nothing would happen, and every such container
// would take its whole grace period to end. So what a signal does by default is
// done by one that the kernel delivers, and reported as if it were the signal's.
func (in *initd) deliver(p *process, s syscall.Signal) {
	switch {
	case p.main == nil, byDefault(s) == s:
		_ = unix.Kill(p.pid, s)
	case !slices.Contains(p.pending, s):
		if p.pending = append(p.pending, s); len(p.pending) == 1 {
			in.deliverPending(p, patience)
		}
	}
}

// deliverPending sends a command its signals, in order, as soon as it is known
// what it does with them. in.mu is held.
func (in *initd) deliverPending(p *process, patience int) {
	for ; len(p.pending) > 0; p.pending = p.pending[1:] {
		s := p.pending[0]
		heard, sure := p.hears(s)
		switch {
		case !sure && patience > 0:
			time.AfterFunc(time.Millisecond, func() {
				in.mu.Lock()
				defer in.mu.Unlock()
				if in.byID[p.id] == p {
					in.deliverPending(p, patience-1)
				}
			})
			return
		case heard:
			_ = unix.Kill(p.pid, s)
		default:
			send := byDefault(s)
			if send == unix.SIGKILL && p.main.asked == 0 {
				p.main.asked = s
			}
			_ = unix.Kill(p.pid, send)
		}
	}
}

// byDefault is the signal that does to process 1 what s does by default.
func byDefault(s syscall.Signal) syscall.Signal {
	switch s {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, unix.SIGSTOP, 0:
		return s // nothing, or what process 1 is not spared
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return unix.SIGSTOP
	}
	return unix.SIGKILL
}

// hears reports whether the command does something with a signal: it catches it,
// ignores it, or takes it by sigwait(3) or signalfd(2).
func (p *process) hears(s syscall.Signal) (heard, sure bool) {
	select {
	case <-p.main.heard:
	default:
		return false, true // it is ours still
	}
	waits := p.waits()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return true, true // it has gone
	}
	heard, sure = hears(string(status), s)
	if !heard && (waits || p.waits()) {
		return true, true
	}
	return heard, sure
}

// waits reports whether the command is in sigwait(3), which hides from its status
// what it waits for. The kernel then delivers that, and nothing else that matters.
func (p *process) waits() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", p.pid))
	number, _, _ := strings.Cut(string(b), " ")
	return err == nil && number == strconv.Itoa(unix.SYS_RT_SIGTIMEDWAIT)
}

// hears reads /proc/PID/status. The kernel keeps blocked signals; when one is
// unblocked that nobody catches, process 1 is spared it. Shells block all while
// they fork, and sigwait's are hidden until who waits has the processor: what a
// process at work blocks or not may be another thing when it sleeps.
func hears(status string, s syscall.Signal) (heard, sure bool) {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "State": // stands before the masks
			sure = strings.HasPrefix(value, "S") || strings.HasPrefix(value, "T")
		case "SigBlk", "SigIgn", "SigCgt":
			mask, err := strconv.ParseUint(value, 16, 64)
			if err == nil && s > 0 && mask&(1<<(s-1)) != 0 {
				heard = true
				sure = sure || name != "SigBlk"
			}
		}
	}
	return heard, sure
}
