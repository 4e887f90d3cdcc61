package shard

import (
	"log/slog"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
)

// shortageEvery bounds how often the log speaks of a shortage: each connection that it names wants to be told of.
const shortageEvery = 10 * time.Second

// A shortage names in the log that descriptors are lacking: connections fail, or wait, and nothing else says why.
type shortage struct {
	drive.Shortage
	accepts, connects uint64    // what the log knows
	next              time.Time // when it may speak again
}

// tell warns of what has come since the last warning.
func (s *shortage) tell(log *slog.Logger, now time.Time) {
	accepts, connects := s.Accepts.Load(), s.Connects.Load()
	if accepts == s.accepts && connects == s.connects || now.Before(s.next) {
		return
	}
	log.Warn("no descriptors are left for connections: raise the limit (ulimit -n)", "accepts", accepts-s.accepts, "connects", connects-s.connects)
	s.accepts, s.connects, s.next = accepts, connects, now.Add(shortageEvery)
}
