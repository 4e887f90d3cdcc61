package hpack

// codeLengths are the lengths of RFC 7541, appendix B, in bits. The code is
// canonical: codes of one length count upwards in the order of the symbols, and a
// longer one begins where the shorter ones end. So lengths are all there is to know.
var codeLengths = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

const (
	minCode = 5
	maxCode = 30
	quick   = 10 // bits that are looked up at once
)

var (
	codes     [256]uint32
	quickTab  [1 << quick]uint16 // length<<8 | symbol; 0: a longer code
	firstCode [maxCode + 1]uint32
	codeCount [maxCode + 1]uint32
	symbolsAt [maxCode + 1]uint32
	symbols   [256]uint8 // by length, then by value
)

func init() {
	code, k := uint32(0), uint32(0)
	for l := uint32(minCode); l <= maxCode; l++ {
		code <<= 1
		firstCode[l], symbolsAt[l] = code, k
		for s, n := range codeLengths {
			if uint32(n) != l {
				continue
			}
			codes[s] = code
			symbols[k] = uint8(s)
			if l <= quick {
				base := code << (quick - l)
				for j := range uint32(1) << (quick - l) {
					quickTab[base+j] = uint16(l)<<8 | uint16(s)
				}
			}
			code++
			k++
			codeCount[l]++
		}
	}
}

// maxDecoded bounds the length of what n Huffman-coded bytes decode to.
func maxDecoded(n int) int { return n*8/minCode + 1 }

// huffman decodes src into dst, which has room for maxDecoded bytes, and returns how many
// it wrote, or -1 if src is malformed: padding that is longer than seven bits or not all
// ones, or the symbol EOS.
func huffman(dst, src []byte) int {
	var acc uint64 // what is not decoded yet, from the top
	var bits uint
	n, i := 0, 0
	for {
		for bits <= 56 && i < len(src) {
			acc |= uint64(src[i]) << (56 - bits)
			bits += 8
			i++
		}
		if bits < minCode {
			break
		}
		if e := quickTab[acc>>(64-quick)]; e != 0 {
			l := uint(e >> 8)
			if l > bits {
				break
			}
			dst[n] = byte(e)
			n++
			acc <<= l
			bits -= l
			continue
		}
		s, l := long(acc, bits)
		if l == 0 {
			break
		}
		dst[n] = s
		n++
		acc <<= l
		bits -= l
	}
	if bits > 7 || i < len(src) || bits > 0 && acc>>(64-bits) != 1<<bits-1 {
		return -1
	}
	return n
}

// long finds a code that is longer than the quick table.
func long(acc uint64, bits uint) (symbol byte, length uint) {
	for l := uint(quick + 1); l <= maxCode && l <= bits; l++ {
		if c := uint32(acc>>(64-l)) - firstCode[l]; c < codeCount[l] {
			return symbols[symbolsAt[l]+c], l
		}
	}
	return 0, 0
}
