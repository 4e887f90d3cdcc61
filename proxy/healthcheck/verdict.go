package healthcheck

import "github.com/mallamesh/malla/proxy/cluster"

// A Failure says why a check failed, in Envoy's words.
type Failure uint8

// The kinds of failure.
const (
	None           Failure = iota
	Active                 // the host answered, and not well
	Passive                // a response to a request said it
	Network                // no connection, or it broke
	NetworkTimeout         // no answer in time
)

var failures = [...]string{"", "ACTIVE", "PASSIVE", "NETWORK", "NETWORK_TIMEOUT"}

// String is Envoy's name.
func (f Failure) String() string { return failures[f] }

func (f Failure) network() bool { return f == Network || f == NetworkTimeout }

// A result is the end of one check.
type result struct {
	failure   Failure
	retriable bool // counts up to the threshold
	degraded  bool // passed, and wants to be used last
	immediate bool // failed, and asks to be left out altogether
	status    int  // of HTTP; 0: there was none
}

// A verdict keeps count of a host's results.
type verdict struct {
	healthy, unhealthy uint32 // in a row
	checked            bool   // a result has come
}

// An outcome is what a result changes.
type outcome struct {
	set, unset cluster.Check
	events     []event
	pending    bool // the host is on its way to change sides: the edge intervals count
}

// pass takes in a check that passed. was is what is known of the host.
func (v *verdict) pass(c *Config, r result, was cluster.Check) (o outcome) {
	first := !v.checked
	v.checked, v.unhealthy = true, 0
	if was&cluster.CheckFailed != 0 {
		if v.healthy++; first || v.healthy == c.HealthyThreshold {
			o.unset |= cluster.CheckFailed | cluster.CheckTimeout | cluster.CheckImmediate
			o.events = append(o.events, event{kind: addHealthy, first: first})
		} else {
			o.pending = true
		}
	}
	if was&cluster.CheckPending != 0 {
		o.unset |= cluster.CheckPending
		o.pending = false
	}
	if degraded := was&cluster.CheckDegraded != 0; r.degraded != degraded {
		if r.degraded {
			o.set |= cluster.CheckDegraded
			o.events = append(o.events, event{kind: becameDegraded})
		} else {
			o.unset |= cluster.CheckDegraded
			o.events = append(o.events, event{kind: noLongerDegraded})
		}
	}
	if c.LogSuccesses && o.unset&cluster.CheckFailed == 0 {
		o.events = append(o.events, event{kind: success})
	}
	return o
}

// fail takes in a check that failed.
func (v *verdict) fail(c *Config, r result, was cluster.Check) (o outcome) {
	first := !v.checked
	v.checked, v.healthy = true, 0
	if was&cluster.CheckFailed == 0 {
		atOnce := !r.failure.network() && !r.retriable
		if !atOnce {
			v.unhealthy++
		}
		if atOnce || v.unhealthy == c.UnhealthyThreshold {
			o.set |= cluster.CheckFailed
			o.events = append(o.events, event{kind: eject, failure: r.failure, status: r.status})
		} else {
			o.pending = true
		}
	}
	if r.immediate {
		o.set |= cluster.CheckImmediate
	}
	if r.failure == NetworkTimeout {
		o.set |= cluster.CheckTimeout
	} else {
		o.unset |= cluster.CheckTimeout
	}
	if was&cluster.CheckPending != 0 {
		o.unset |= cluster.CheckPending
		o.pending = false
	}
	if first || c.LogFailures {
		o.events = append(o.events, event{kind: failed, failure: r.failure, status: r.status, first: first})
	}
	return o
}
