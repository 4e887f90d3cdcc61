package listen

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// facts is what fingerprints are made of: numbers of a client hello in their order, without those that are there to keep
// servers from relying on a fixed set (GREASE, RFC 8701).
type facts struct {
	version                                       int
	ciphers, extensions, groups, formats, sigalgs []int
	versions                                      []int
	sni                                           bool
	alpn                                          string // the first
}

// grease reports whether a number stands for nothing.
func grease(n int) bool { return n&0x0f0f == 0x0a0a && n>>8 == n&0xff }

// numbers takes a list of numbers of a size apart.
func numbers(r reader, size int) (out []int) {
	for r.ok && len(r.b) > 0 {
		if n := r.uint(size); r.ok && (size == 1 || !grease(n)) {
			out = append(out, n)
		}
	}
	return out
}

// read takes the body of a client hello apart, which [helloFields] has found to be sound.
func (f *facts) read(body []byte) {
	r := reader{body, true}
	f.version = r.uint(2)
	r.take(32)
	r.vector(1)
	f.ciphers = numbers(r.vector(2), 2)
	r.vector(1)
	extensions := r.vector(2)
	for extensions.ok && len(extensions.b) > 0 {
		kind := extensions.uint(2)
		b := extensions.vector(2)
		if !extensions.ok || grease(kind) {
			continue
		}
		f.extensions = append(f.extensions, kind)
		switch kind {
		case 0:
			f.sni = true
		case 10:
			f.groups = numbers(b.vector(2), 2)
		case 11:
			f.formats = numbers(b.vector(1), 1)
		case 13:
			f.sigalgs = numbers(b.vector(2), 2)
		case 16:
			if all := protocols(b); len(all) > 0 {
				f.alpn = all[0]
			}
		case 43:
			f.versions = numbers(b.vector(1), 2)
		}
	}
}

// fingerprints are what a client hello is told by.
type fingerprints struct{ ja3, ja4 string }

func (c *Conn) fingerprints() *fingerprints {
	if c.prints == nil {
		c.prints = new(fingerprints)
	}
	return c.prints
}

// ja3 is the MD5 of version, ciphers, extensions, groups and point formats in decimal.
func ja3(body []byte) string {
	var f facts
	f.read(body)
	text := strconv.Itoa(f.version)
	for _, list := range [][]int{f.ciphers, f.extensions, f.groups, f.formats} {
		parts := make([]string, len(list))
		for i, n := range list {
			parts[i] = strconv.Itoa(n)
		}
		text += "," + strings.Join(parts, "-")
	}
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// ja4 is FoxIO's successor of JA3, by sorted lists, so that a client which shuffles its extensions stays the same.
func ja4(body []byte) string {
	var f facts
	f.read(body)
	version := f.version
	for _, v := range f.versions {
		version = max(version, v)
	}
	name, known := map[int]string{0x304: "13", 0x303: "12", 0x302: "11", 0x301: "10", 0x300: "s3"}[version]
	if !known {
		name = "00"
	}
	sni := "i"
	if f.sni {
		sni = "d"
	}
	extensions := slices.DeleteFunc(slices.Clone(f.extensions), func(n int) bool { return n == 0 || n == 16 })
	slices.Sort(f.ciphers)
	slices.Sort(extensions)
	list := hexList(extensions)
	if len(f.sigalgs) > 0 {
		list += "_" + hexList(f.sigalgs)
	}
	return fmt.Sprintf("t%s%s%02d%02d%s_%s_%s", name, sni, min(len(f.ciphers), 99), min(len(f.extensions), 99), ends(f.alpn),
		short(hexList(f.ciphers)), short(list))
}

// ends are the first and the last character of a protocol, in hex if they are no letters and digits.
func ends(alpn string) string {
	if alpn == "" {
		return "00"
	}
	first, last := alpn[0], alpn[len(alpn)-1]
	plain := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' }
	if plain(first) && plain(last) {
		return string([]byte{first, last})
	}
	text := hex.EncodeToString([]byte{first, last})
	return text[:1] + text[3:]
}

func hexList(list []int) string {
	parts := make([]string, len(list))
	for i, n := range list {
		parts[i] = fmt.Sprintf("%04x", n)
	}
	return strings.Join(parts, ",")
}

func short(text string) string {
	if text == "" {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}
