//go:build linux

package podinit

import (
	"syscall"
	"testing"
)

// A process hears what it catches, ignores, or waits for.
func TestHears(t *testing.T) {
	const masks = "SigQ:\t1/2\nSigPnd:\t0000000000004000\nSigBlk:\t0000000000004200\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180004001\n"
	for s, want := range map[syscall.Signal]struct{ heard, sureAtWork bool }{
		syscall.SIGTERM: {true, true},   // caught, if blocked for now
		syscall.SIGHUP:  {true, true},   // caught
		syscall.SIGPIPE: {true, true},   // ignored
		syscall.SIGUSR1: {true, false},  // blocked
		syscall.SIGINT:  {false, false}, // none of it
		33:              {true, true},   // a C library's own
		64:              {false, false},
		0:               {false, false}, // none at all
	} {
		for state, sure := range map[string]bool{"S (sleeping)": true, "T (stopped)": true, "R (running)": want.sureAtWork, "D (disk sleep)": want.sureAtWork} {
			h, ok := hears("Name:\tapp\nState:\t"+state+"\n"+masks, s)
			if h != want.heard || ok != sure {
				t.Errorf("%s: hears %v: %v (sure: %v), want %v (%v)", state, s, h, ok, want.heard, sure)
			}
		}
	}
	if heard, sure := hears("SigCgt:\tx\n", syscall.SIGTERM); heard || sure {
		t.Error("a status that says nothing is sure")
	}
}
