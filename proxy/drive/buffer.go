package drive

// Buffers come in five sizes. A connection has one only while it holds bytes, so
// an idle connection costs none.
var classes = [...]int{4 << 10, 16 << 10, 64 << 10, 128 << 10, largest}

// largest is the largest size that is kept; output beyond it goes into several (see output.go).
const largest = 256 << 10

// spare is how many free buffers of a class a loop keeps.
var spare = [len(classes)]int{256, 64, 32, 8, 8}

// buffers is a loop's stock of free buffers.
type buffers struct {
	free [len(classes)][][]byte
}

// get returns an empty buffer with room for at least n bytes.
func (p *buffers) get(n int) []byte {
	for i, size := range classes {
		if n > size {
			continue
		}
		if last := len(p.free[i]) - 1; last >= 0 {
			b := p.free[i][last]
			p.free[i] = p.free[i][:last]
			return b
		}
		return make([]byte, 0, size)
	}
	return make([]byte, 0, n)
}

// put takes a buffer back; buffers of odd sizes are left to the collector.
func (p *buffers) put(b []byte) {
	for i, size := range classes {
		if cap(b) == size {
			if len(p.free[i]) < spare[i] {
				p.free[i] = append(p.free[i], b[:0])
			}
			return
		}
	}
}

// grow returns b with room for n more bytes, in a larger buffer if need be.
func (p *buffers) grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	if b == nil {
		return p.get(n)
	}
	want := len(b) + n
	if want > largest { // by a quarter: what a peer makes us keep is not to cost twice as much
		want = max(want, cap(b)+cap(b)/4)
	}
	larger := append(p.get(want), b...)
	p.put(b)
	return larger
}
