package drive

import (
	"errors"
	"sync/atomic"
	"syscall"
)

// A Shortage counts what loops could not do because the process, or the system, had no descriptors left. Loops may share one.
type Shortage struct {
	Accepts  atomic.Uint64 // rests of listeners: clients wait meanwhile
	Connects atomic.Uint64 // connections that could not be begun
}

// short reports whether an error is such a lack.
func short(err error) bool { return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) }

// CountShortage has the loop count in s.
func (l *Loop) CountShortage(s *Shortage) { l.shortage = s }
