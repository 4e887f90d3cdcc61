package listen

import "testing"

// Sizes stand in their order, and one that counts somewhere is not below the least that does.
func TestSizesOfStreams(t *testing.T) {
	last := 0
	for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 100, 1 << 20, 1<<20 + 1, 1<<62 + 1, 1<<63 - 1} {
		at := size(n)
		if at < last || at >= len(Toll{}.held) {
			t.Errorf("%d bytes count at %d, behind %d", n, at, last)
		}
		last = at
		if least := leastOf(at); least > n || size(least) != at {
			t.Errorf("%d bytes count where the least is %d", n, least)
		}
		if least := leastOf(at); n > 8 && n-least > n/4 {
			t.Errorf("%d bytes count with %d", n, least)
		}
	}
}
