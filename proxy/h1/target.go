package h1

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
)

// The target of a request: whom it is for.

// target sorts out the four forms of a request target and the host.
func (f *fieldParser) target(method, target []byte) *Error {
	if f.hosts > 1 {
		return errHost
	}
	if f.hosts == 0 && f.head.Minor == 1 {
		return errNoHost
	}
	authority := f.host
	switch {
	case f.head.Connect:
		authority = target
		f.m.Remove(header.Path)
		f.m.Remove(header.Scheme)
	case target[0] == '/':
		if !header.ValidTarget(target) || !ascii(target) {
			return errTarget
		}
	case len(target) == 1 && target[0] == '*':
		if string(method) != "OPTIONS" {
			return errURL
		}
	case f.p.NoAbsolute:
		if !header.ValidTarget(target) || !ascii(target) {
			return errTarget
		}
	default:
		var err *Error
		if authority, err = f.absolute(target); err != nil {
			return err
		}
	}
	if f.head.Connect && bytes.IndexByte(authority, ':') < 0 {
		return errURL
	}
	if !header.ValidAuthority(authority) || !header.ValidAuthority(f.host) {
		return errAuthority
	}
	if f.head.Minor == 1 && len(authority) == 0 {
		return errNoHost
	}
	f.m.Set(header.Authority, authority)
	return nil
}

// ascii reports whether a target holds no octets above 0x7f, which Envoy refuses in HTTP/1.1.
func ascii(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// absolute takes an absolute-form target apart. Its host replaces the host field (RFC 9112, section 3.2.2).
func (f *fieldParser) absolute(target []byte) ([]byte, *Error) {
	i := bytes.Index(target, []byte("://"))
	if i < 0 {
		return nil, errTarget
	}
	switch scheme := target[:i]; {
	case equalFold(scheme, "http"):
	case equalFold(scheme, "https"):
		if f.p.Plain {
			return nil, errSecure
		}
		f.m.Set(header.Scheme, schemeHTTPS)
	default:
		return nil, errScheme
	}
	f.head.Absolute = true
	rest := target[i+3:]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	if !header.ValidTarget(rest[:end]) {
		return nil, errTarget
	}
	if !validHostPort(rest[:end]) {
		return nil, errURL
	}
	path := rest[end:]
	switch {
	case len(path) == 0:
		path = rootPath
	case path[0] == '?':
		f.m.SetCopy(header.Path, append([]byte{'/'}, path...))
		path = f.m.Get(header.Path)
	}
	if !header.ValidTarget(path) || !ascii(path) {
		return nil, errTarget
	}
	f.m.Set(header.Path, path)
	return rest[:end], nil
}

// validHostPort reports whether an authority is a name or address, and a port if there is a colon: with fewer letters
// than one in a Host field may have, as in Envoy.
func validHostPort(b []byte) bool {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		if i = bytes.IndexByte(b, ']') + 1; i < 4 {
			return false
		}
		for _, c := range b[1 : i-1] {
			if l := lower[c]; !digit(c) && (l < 'a' || l > 'f') && c != ':' && c != '.' {
				return false
			}
		}
	} else {
		for i < len(b) && b[i] != ':' {
			if c := lower[b[i]]; !digit(c) && (c < 'a' || c > 'z') && c != '.' && c != '-' {
				return false
			}
			i++
		}
	}
	if i == 0 || i < len(b) && b[i] != ':' {
		return false
	}
	if i == len(b) {
		return true
	}
	port := 0
	for _, c := range b[i+1:] {
		if port = port*10 + int(c-'0'); !digit(c) || port > 65535 {
			return false
		}
	}
	return i+1 < len(b)
}
