// Package uri reads the target of a request: its path, its query, the parameters of that, and what is escaped in them.
//
// A query is parameters between ampersands: a name and, behind the first =, a value. What Envoy makes of one depends on who
// asks, and each of its readings is a function here. Routes, their hash policies and their query matchers compare names and values
// as they are written ([Parameter]). Rate limits, API keys, access logs and header mutation compare what the escapes stand for
// ([Decoded]). Common to all: of parameters of one name the first counts, a parameter without = has an empty value, a plus
// is a plus (no space, as forms have it), and what is no escape stays as it is.
//
// Nothing here allocates but what a caller's buffer has no room for, and nothing refuses: a query that is odd is its host's.
package uri

import "bytes"

// Split cuts a target into its path and its query; a fragment belongs to neither.
func Split(target []byte) (path, query []byte) {
	if i := bytes.IndexByte(target, '#'); i >= 0 {
		target = target[:i]
	}
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		return target[:i], target[i+1:]
	}
	return target, nil
}

// Next cuts the first parameter off a query.
func Next(query []byte) (name, value, rest []byte) {
	pair := query
	if i := bytes.IndexByte(query, '&'); i >= 0 {
		pair, rest = query[:i], query[i+1:]
	}
	if i := bytes.IndexByte(pair, '='); i >= 0 {
		return pair[:i], pair[i+1:], rest
	}
	return pair, nil, rest
}

// Parameter returns the first value of a name, as both are written.
func Parameter(query []byte, name string) (value []byte, found bool) {
	for len(query) > 0 {
		var n []byte
		if n, value, query = Next(query); string(n) == name {
			return value, true
		}
	}
	return nil, false
}

// Decoded returns the first value of a name that, its escapes undone, is the one that is asked for. The value is still as it
// is written: see [AppendDecoded].
func Decoded(query []byte, name string) (value []byte, found bool) {
	for len(query) > 0 {
		var n []byte
		var room [64]byte
		if n, value, query = Next(query); string(AppendDecoded(room[:0], n)) == name {
			return value, true
		}
	}
	return nil, false
}

// AppendDecoded appends a text with its escapes undone. What is no escape stays as it is.
func AppendDecoded(dst, text []byte) []byte { return AppendDecodedOnly(dst, text, nil) }

// AppendDecodedOnly is AppendDecoded for the bytes that may be; nil is all of them. The escapes of others stay.
func AppendDecodedOnly(dst, text []byte, may func(byte) bool) []byte {
	for i := 0; i < len(text); i++ {
		if text[i] == '%' {
			if c, ok := Escape(text[i:]); ok && (may == nil || may(c)) {
				dst = append(dst, c)
				i += 2
				continue
			}
		}
		dst = append(dst, text[i])
	}
	return dst
}

// Escape returns the byte that the escape at the start of a text, %XX, stands for.
func Escape(text []byte) (byte, bool) {
	if len(text) < 3 || text[0] != '%' {
		return 0, false
	}
	high, low := hex(text[1]), hex(text[2])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

func hex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
