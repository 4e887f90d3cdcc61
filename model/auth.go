package model

import "time"

// An MTLSMode is what a workload accepts on a port.
type MTLSMode uint8

const (
	MTLSUnset      MTLSMode = iota // whatever the level above says
	MTLSDisable                    // plain text only
	MTLSPermissive                 // both; the default
	MTLSStrict                     // mutual TLS only
)

// String returns Istio's name of the mode.
func (m MTLSMode) String() string {
	return [...]string{"UNSET", "DISABLE", "PERMISSIVE", "STRICT"}[m]
}

// PeerAuthentication says what workloads accept.
type PeerAuthentication struct {
	From     Ref
	Created  time.Time
	Selector map[string]string // empty: the namespace, in the root namespace the mesh
	Mode     MTLSMode
	Ports    map[uint16]MTLSMode // by port of the workload
}
