package header

import "bytes"

// ListHas reports whether a value that is a list has an item, in any case.
func ListHas(list, item []byte) bool {
	for len(list) > 0 {
		var next []byte
		next, list, _ = bytes.Cut(list, []byte{','})
		if bytes.EqualFold(bytes.TrimSpace(next), item) {
			return true
		}
	}
	return false
}
