package coding

import "encoding/binary"

// A frames follows a zstd body from frame to frame (RFC 8878, section 3.1), to know what memory each will take before a decoder
// has it: a frame says how far back it looks, and any later one may look further.
type frames struct {
	state func(*frames, *int) // what becomes of head; nil: a frame is to begin
	head  [18]byte            // as far as it has come
	have  int
	want  int
	pass  uint64 // bytes of a block, a checksum or a frame to skip
	sum   bool   // a checksum follows the last block
	lost  bool   // this is no zstd, as the decoder will say
}

const (
	frameMagic     = 0xfd2fb528
	skippableMagic = 0x184d2a50 // and the 15 after it
)

// next follows a piece and returns the largest window of the frames whose headers end in it.
func (f *frames) next(b []byte) (window int) {
	for len(b) > 0 && !f.lost {
		if f.pass > 0 {
			n := min(f.pass, uint64(len(b)))
			f.pass, b = f.pass-n, b[n:]
			continue
		}
		if f.state == nil {
			f.await((*frames).begin, 5)
		}
		n := copy(f.head[f.have:f.want], b)
		f.have, b = f.have+n, b[n:]
		if f.have == f.want {
			f.state(f, &window)
		}
	}
	return window
}

// await has a state wait for so many bytes from where it is now.
func (f *frames) await(state func(*frames, *int), n int) { f.state, f.have, f.want = state, 0, n }

// begin has a frame's magic number and the byte behind it.
func (f *frames) begin(*int) {
	switch magic := binary.LittleEndian.Uint32(f.head[:]); {
	case magic == frameMagic:
		f.state, f.want = (*frames).header, f.want+headerRest(f.head[4])
	case magic&^15 == skippableMagic:
		f.state, f.want = (*frames).skippable, 8
	default:
		f.lost = true
	}
}

// headerRest is how much of a frame's header follows its descriptor; it is never nothing.
func headerRest(descriptor byte) int {
	n := [4]int{0, 1, 2, 4}[descriptor&3] + contentSize(descriptor) // of the dictionary's number
	if descriptor&(1<<5) == 0 {
		n++ // the window
	}
	return n
}

// contentSize is how many bytes a header has to say how long its frame is.
func contentSize(descriptor byte) int {
	switch n := descriptor >> 6; {
	case n > 0:
		return 1 << n
	case descriptor&(1<<5) != 0:
		return 1
	}
	return 0
}

// header has all of a frame's header. A frame that is one segment has no window but its content.
func (f *frames) header(window *int) {
	descriptor, size := f.head[4], uint64(0)
	if descriptor&(1<<5) == 0 {
		size = 1 << (10 + f.head[5]>>3)
		size += size / 8 * uint64(f.head[5]&7)
	} else {
		n := contentSize(descriptor)
		var digits [8]byte
		copy(digits[:], f.head[f.want-n:f.want])
		if size = binary.LittleEndian.Uint64(digits[:]); n == 2 {
			size += 256
		}
	}
	*window = max(*window, int(min(size, maxWindow)), 1<<10)
	f.sum = descriptor&(1<<2) != 0
	f.await((*frames).block, 3)
}

// block has a block's header.
func (f *frames) block(*int) {
	head := uint32(f.head[0]) | uint32(f.head[1])<<8 | uint32(f.head[2])<<16
	if f.pass = uint64(head >> 3); head>>1&3 == 1 { // one byte, so many times
		f.pass = 1
	}
	f.await((*frames).block, 3)
	if head&1 == 0 {
		return
	}
	if f.state = nil; f.sum {
		f.pass += 4
	}
}

// skippable has the length of a frame that is not for decoders.
func (f *frames) skippable(*int) {
	f.pass = uint64(binary.LittleEndian.Uint32(f.head[4:]))
	f.state = nil
}
