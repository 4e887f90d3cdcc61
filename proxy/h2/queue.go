package h2

const (
	chunkSize = 16 << 10
	maxChunks = 64 // that a shard keeps for later

	// maxHeld bounds what a shard keeps of paused streams, in chunks: 256 MiB. A connection's window bounds what
	// it can have us keep, to 24 MiB as Envoy sets it, and nothing bounds the number of connections.
	maxHeld = 256 << 20 / chunkSize
)

// A chunk is a piece of what was received for a stream that is paused.
type chunk struct {
	next *chunk
	n    int
	b    [chunkSize]byte
}

// A queue keeps what was received. It is made of chunks, so that a stream whose window fills
// behind a slow reader neither moves bytes about nor holds more than they take.
type queue struct {
	first, last *chunk
	size        int
}

// push appends a copy of p.
func (q *queue) push(h *Shard, p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		if q.last == nil || q.last.n == chunkSize {
			c := h.chunk()
			if q.last == nil {
				q.first = c
			} else {
				q.last.next = c
			}
			q.last = c
		}
		n := copy(q.last.b[q.last.n:], p)
		q.last.n += n
		p = p[n:]
	}
}

// pop takes the first chunk off, nil if there is none. It is the caller's until it goes back to the shard.
func (q *queue) pop() *chunk {
	c := q.first
	if c == nil {
		return nil
	}
	if q.first = c.next; q.first == nil {
		q.last = nil
	}
	q.size -= c.n
	return c
}

// drop gives everything back.
func (q *queue) drop(h *Shard) {
	for c := q.pop(); c != nil; c = q.pop() {
		h.putChunk(c)
	}
}

func (h *Shard) chunk() *chunk {
	h.heldChunks++
	c := h.chunks
	if c == nil {
		return &chunk{}
	}
	h.chunks, c.next = c.next, nil
	h.spareChunks--
	return c
}

func (h *Shard) putChunk(c *chunk) {
	if c == nil {
		return
	}
	h.heldChunks--
	if h.spareChunks >= maxChunks {
		return
	}
	c.n, c.next = 0, h.chunks
	h.chunks = c
	h.spareChunks++
}
