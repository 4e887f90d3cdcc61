package pods

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/mallamesh/malla/local/router"
)

// addresses gives pods their addresses, in turn, so that one that was given back
// is not reused at once.
type addresses struct {
	mu   sync.Mutex
	used map[uint16]bool // guarded by mu
	next uint16          // guarded by mu
}

const (
	firstAddress = 16    // those below are the router's
	lastAddress  = 65499 // the rest is kept free
)

func newAddresses() *addresses {
	return &addresses{used: map[uint16]bool{}, next: firstAddress}
}

// take returns an unused v4 and v6 address with the same number.
func (a *addresses) take() (n uint16, ips []netip.Addr, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range 1 << 16 {
		n = a.next
		if a.next++; a.next > lastAddress {
			a.next = firstAddress
		}
		if low := byte(n); a.used[n] || low == 0 || low == 255 { // people take .0 and .255 for something else
			continue
		}
		a.used[n] = true
		v4 := router.PodCIDR4.Addr().As4()
		v4[2], v4[3] = byte(n>>8), byte(n)
		v6 := router.PodCIDR6.Addr().As16()
		v6[14], v6[15] = byte(n>>8), byte(n)
		return n, []netip.Addr{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}, nil
	}
	return 0, nil, errors.New("all addresses for pods are in use")
}

func (a *addresses) give(n uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.used, n)
}
