package lb

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Hash is Envoy's hash of a text: xxHash64 with seed 0.
func Hash(text []byte) uint64 { return xxhash.Sum64(text) }

// HashString is Hash of a string.
func HashString(text string) uint64 { return xxhash.Sum64String(text) }

// HashOn hashes a text with the hash of what came before it as the seed, as Envoy
// hashes lists.
func HashOn(seed uint64, text []byte) uint64 {
	if seed == 0 {
		return xxhash.Sum64(text)
	}
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.Write(text) // never fails
	return d.Sum64()
}

// murmurSeed is the seed of libstdc++'s std::hash, whose results Envoy repeats.
const murmurSeed = 0xc70f6907

// murmur2 is MurmurHash2 for 64 bits as libstdc++ has it.
func murmur2(key []byte, seed uint64) uint64 {
	const mul = 0xc6a4a7935bd1e995
	mix := func(v uint64) uint64 { return v ^ v>>47 }
	h := seed ^ uint64(len(key))*mul
	for ; len(key) >= 8; key = key[8:] {
		h = (h ^ mix(binary.LittleEndian.Uint64(key)*mul)*mul) * mul
	}
	if len(key) > 0 {
		var tail uint64
		for i, b := range key {
			tail |= uint64(b) << (8 * i)
		}
		h = (h ^ tail) * mul
	}
	return mix(mix(h) * mul)
}
