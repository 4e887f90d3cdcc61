package h2

import "testing"

// A queue that is never empty takes no more memory than what is in it.
func TestQueueThatIsNeverEmpty(t *testing.T) {
	h := NewShard(func() int64 { return 0 })
	var q queue
	piece := make([]byte, 10_000)
	q.push(h, piece)
	turn := func() {
		q.push(h, piece)
		for q.size > 2*len(piece) {
			h.putChunk(q.pop())
		}
	}
	for range 10 {
		turn()
	}
	if n := testing.AllocsPerRun(10_000, turn); n != 0 {
		t.Errorf("a turn allocates %v times, want 0", n)
	}
	if q.drop(h); q.size != 0 || q.first != nil || q.last != nil {
		t.Errorf("a queue that was dropped holds %d bytes", q.size)
	}
}
