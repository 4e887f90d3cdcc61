package cluster

import (
	"sync/atomic"
	"time"
)

// OutlierConfig says when a host is taken out for a while. Nil fields take Envoy's
// defaults, given in the comments.
type OutlierConfig struct {
	Consecutive5xx     *uint32       // 5
	ConsecutiveGateway *uint32       // 5
	ConsecutiveLocal   *uint32       // 5
	Enforce5xx         *uint32       // 100 (percent)
	EnforceGateway     *uint32       // 0
	EnforceLocal       *uint32       // 100
	Interval           time.Duration // 10 s
	BaseEjection       time.Duration // 30 s
	MaxEjection        time.Duration // 300 s, at least BaseEjection
	Jitter             time.Duration // 0
	MaxEjectionPercent *uint32       // 10
	AlwaysEjectOne     bool
	Split              bool     // local errors count apart (split_external_local_origin_errors)
	ErrorCodes         []uint16 // replaces 5xx as what counts as an error; empty: 5xx
}

// A ResultKind says how an attempt ended.
type ResultKind uint8

// The kinds.
const (
	Response       ResultKind = iota // a response came, with Code
	ConnectOK                        // a connection was made; more is to come (HTTP)
	ConnectOKFinal                   // a connection was made and that is all we will know (TCP)
	ConnectFailed                    // local origin: no connection, or it broke
	Timeout                          // local origin: no answer in time
	RequestFailed                    // the host answered something that is a failure without a code
	RequestOK
)

// A Result is the end of one attempt.
type Result struct {
	Kind ResultKind
	Code int
}

// outlierState is what detection knows of a host.
type outlierState struct {
	errors, gateway, local atomic.Uint32 // consecutive
	// guarded by the cluster's mu:
	backoff   uint32 // times ejected, less the quiet intervals since
	ejectedAt time.Time
	until     time.Time
	ejections uint64
}

func (o OutlierConfig) withDefaults() OutlierConfig { return o }

// Report takes note of a result. It may eject the host at once.
func (c *Cluster) Report(h *Host, r Result, now time.Time) {}

// Sweep does what is due: ends ejections, and forgets unused original destinations. It is
// called about once a second.
func (c *Cluster) Sweep(now time.Time) {}

func (c *Cluster) uneject(h *Host) {}
