package translate

import (
	"math"

	"github.com/mallamesh/malla/model"
)

// Proxies add weights up in 32 bits, and refuse what does not fit. Weights that are too heavy together keep their
// proportions, and each stays at least 1.

// divisor is by what weights with this sum are divided so that n of them fit.
func divisor(total uint64, n int) uint64 {
	room := uint64(math.MaxUint32 - n)
	if total <= room {
		return 1
	}
	return total/room + 1
}

// lighter is a weight after that; none stays none.
func lighter(weight, divisor uint64) uint32 {
	if weight == 0 {
		return 0
	}
	return uint32(max(1, weight/divisor))
}

// divisorOf is the divisor for the destinations of one route.
func divisorOf(splits []model.Split) uint64 {
	total := uint64(0)
	for _, s := range splits {
		total += uint64(s.Weight)
	}
	return divisor(total, len(splits))
}
