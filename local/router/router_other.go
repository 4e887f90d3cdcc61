//go:build !linux

package router

import (
	"errors"
	"net/netip"

	"github.com/mallamesh/malla/node/dns"
)

var errLinux = errors.New("a local mesh needs Linux")

// A Router needs Linux.
type Router struct{}

// New needs Linux.
func New(Config) (*Router, error) { return nil, errLinux }

// SetServices does nothing.
func (*Router) SetServices([]Service) error { return errLinux }

// SetNames does nothing.
func (*Router) SetNames(*dns.Table) {}

// AttachPod needs Linux.
func (*Router) AttachPod(int, []netip.Addr) (string, error) { return "", errLinux }

// DetachPod needs Linux.
func (*Router) DetachPod(string) error { return errLinux }

// Families keeps all.
func (*Router) Families(addrs []netip.Addr) []netip.Addr { return addrs }

// Close does nothing.
func (*Router) Close() error { return nil }
