package pool

import (
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
)

// A connection is idle for as long as its state says, however long that is, and else as the configuration says to the microsecond.
func TestWishedIdle(t *testing.T) {
	for _, test := range []struct {
		wish            string
		otherwise, want time.Duration
	}{
		{"1500", time.Hour, 1500 * time.Millisecond},
		{"0", time.Hour, 0},
		{"18446744073709551615", time.Hour, (1<<63 - 1) / time.Millisecond * time.Millisecond},
		{"", 500 * time.Microsecond, 500 * time.Microsecond},
	} {
		var s access.State
		if test.wish != "" {
			s.Set(WishIdle, []byte(test.wish), false)
		}
		if got := WishedIdle(&s, test.otherwise); got != test.want {
			t.Errorf("%q in place of %v: %v, want %v", test.wish, test.otherwise, got, test.want)
		}
	}
}
