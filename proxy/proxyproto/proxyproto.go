// Package proxyproto reads and writes the header of the PROXY protocol, versions 1 and 2, by which a
// proxy tells the next one whose connection it passes on.
//
// It takes and refuses what Envoy does. What is not told in TCP over IP (UNKNOWN, LOCAL)
// stands for the connection's own addresses; extensions (TLVs) of version 2 are passed as they are.
//
// Sockets are not known here: proxy/listen reads headers of clients, proxy/tcp and
// proxy/pool write them to hosts.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
)

// A Version is a version of the protocol.
type Version uint8

// The versions.
const (
	V1 Version = 1
	V2 Version = 2
)

// A Header is what stands before the first byte of a connection.
type Header struct {
	Version             Version
	Local               bool // the addresses are those of the connection itself
	Source, Destination netip.AddrPort
	TLVs                []byte // extensions as they came
}

// Outcomes of looking at first bytes.
var (
	ErrMore      = errors.New("proxyproto: more bytes needed")
	ErrMalformed = errors.New("proxyproto: found no header of the PROXY protocol")
)

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"

	fixed     = 16  // of version 2, before the addresses
	maxLength = 107 // of version 1, line end included

	inet, inet6, unix = 1, 2, 3 // address families of version 2
	stream, datagram  = 1, 2    // and transports
)

// Begins reports whether b may be the beginning of a header of a version.
func Begins(b []byte, v Version) bool {
	sig := signature1
	if v == V2 {
		sig = signature2
	}
	n := min(len(b), len(sig))
	return string(b[:n]) == sig[:n]
}

// Parse reads the header at the beginning of b and returns its length. ErrMore asks for more bytes.
func Parse(b []byte) (Header, int, error) {
	if len(b) >= fixed {
		if string(b[:len(signature2)]) == signature2 {
			return parse2(b)
		}
		if string(b[:len(signature1)]) != signature1 {
			return Header{}, 0, ErrMalformed
		}
	}
	end := bytes.Index(b, []byte("\r\n"))
	switch {
	case end > 0 && end+2 <= maxLength:
		return parse1(string(b[:end]))
	case end > 0 || end < 0 && len(b) >= maxLength:
		return Header{}, 0, ErrMalformed
	}
	return Header{}, 0, ErrMore // a line end at the very beginning: perhaps version 2
}

// parse1 reads a line of version 1, without its end.
func parse1(line string) (Header, int, error) {
	h, n := Header{Version: V1}, len(line)+2
	parts := strings.Split(line, " ")
	if len(parts) < 2 || parts[0] != "PROXY" {
		return h, 0, ErrMalformed
	}
	if parts[1] == "UNKNOWN" { // whatever comes after it
		h.Local = true
		return h, n, nil
	}
	if len(parts) != 6 || parts[1] != "TCP4" && parts[1] != "TCP6" {
		return h, 0, ErrMalformed
	}
	var ok, ok2 bool
	h.Source, ok = addrPort(parts[2], parts[4], parts[1] == "TCP4")
	h.Destination, ok2 = addrPort(parts[3], parts[5], parts[1] == "TCP4")
	if !ok || !ok2 || !h.usable() {
		return h, 0, ErrMalformed
	}
	return h, n, nil
}

func addrPort(ip, port string, v4 bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(ip)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil || a.Is4() != v4 || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a, uint16(n)), true
}

// parse2 reads a header of version 2, whose fixed part is there.
func parse2(b []byte) (Header, int, error) {
	h := Header{Version: V2}
	command, family, transport := b[12]&0x0f, b[13]>>4, b[13]&0x0f
	size := int(binary.BigEndian.Uint16(b[14:]))
	addresses := 0
	switch {
	case b[12]>>4 != 2 || command > 1:
		return h, 0, ErrMalformed
	case command == 0:
		h.Local = true
	case transport != stream && transport != datagram:
		return h, 0, ErrMalformed
	case family == inet:
		addresses = 12
	case family == inet6:
		addresses = 36
	default: // Unix sockets have no address that could be told further on
		return h, 0, ErrMalformed
	}
	if size < addresses {
		return h, 0, ErrMalformed
	}
	if len(b) < fixed+size {
		return h, 0, ErrMore
	}
	rest := b[fixed : fixed+size]
	switch addresses {
	case 12:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest[4:])), binary.BigEndian.Uint16(rest[10:]))
	case 36:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)), binary.BigEndian.Uint16(rest[32:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest[16:])), binary.BigEndian.Uint16(rest[34:]))
	}
	if !h.Local && !h.usable() {
		return h, 0, ErrMalformed
	}
	h.TLVs = rest[addresses:]
	return h, fixed + size, nil
}

// usable wants two addresses that a TCP connection can have.
func (h *Header) usable() bool {
	for _, a := range [...]netip.Addr{h.Source.Addr(), h.Destination.Addr()} {
		if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return false
		}
	}
	return true
}

// Append appends a header. Addresses of two families, and invalid ones, are told as unknown.
func Append(dst []byte, h *Header) []byte {
	src, to := h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	local := h.Local || !src.IsValid() || src.Is4() != to.Is4()
	if h.Version == V1 {
		return append1(dst, h, src, to, local)
	}
	dst = append(dst, signature2...)
	if local {
		return append(dst, 0x20, 0, 0, 0)
	}
	family, size := byte(inet<<4|stream), 12
	if src.Is6() {
		family, size = inet6<<4|stream, 36
	}
	dst = append(dst, 0x21, family)
	dst = binary.BigEndian.AppendUint16(dst, uint16(size+len(h.TLVs)))
	dst = append(dst, src.AsSlice()...)
	dst = append(dst, to.AsSlice()...)
	dst = binary.BigEndian.AppendUint16(dst, h.Source.Port())
	dst = binary.BigEndian.AppendUint16(dst, h.Destination.Port())
	return append(dst, h.TLVs...)
}

func append1(dst []byte, h *Header, src, to netip.Addr, local bool) []byte {
	if local {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	name := "PROXY TCP4 "
	if src.Is6() {
		name = "PROXY TCP6 "
	}
	dst = append(dst, name...)
	dst = append(src.AppendTo(dst), ' ')
	dst = append(to.AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(h.Source.Port()), 10), ' ')
	return append(strconv.AppendUint(dst, uint64(h.Destination.Port()), 10), '\r', '\n')
}

// A TLV is an extension of version 2.
type TLV struct {
	Type  byte
	Value []byte
}

// SplitTLVs takes extensions apart.
func SplitTLVs(b []byte) ([]TLV, error) {
	var out []TLV
	for len(b) > 0 {
		if len(b) < 3 {
			return nil, ErrMalformed
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if len(b) < 3+n {
			return nil, ErrMalformed
		}
		out = append(out, TLV{b[0], b[3 : 3+n]})
		b = b[3+n:]
	}
	return out, nil
}

// AppendTLV appends an extension.
func AppendTLV(dst []byte, t TLV) []byte {
	dst = append(dst, t.Type)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(t.Value)))
	return append(dst, t.Value...)
}

// A Sender says which headers the hosts of a cluster get.
type Sender struct {
	Version Version
	Added   []Added
	All     bool          // extensions of the client are passed on,
	Passed  map[byte]bool // or those of these types
}

// Added is an extension that a header gets.
type Added struct {
	TLV
	Format *access.Format // of the value; nil: it is given
}

// Tells reports whether there are extensions whose values depend on the connection.
func (s *Sender) Tells() bool {
	for i := range s.Added {
		if s.Added[i].Format != nil {
			return s.Version == V2
		}
	}
	return false
}

// Header makes the header of a connection that is made for a client, with the client's extensions and those of
// the host, which win over ours. about is the connection; nil: extensions that tell of it are left out.
func (s *Sender) Header(source, destination netip.AddrPort, client []byte, host []TLV, about *access.Record) []byte {
	h := Header{Version: s.Version, Source: source, Destination: destination}
	if s.Version == V2 {
		h.TLVs = s.extensions(client, host, about)
	}
	return Append(nil, &h)
}

func (s *Sender) extensions(client []byte, host []TLV, about *access.Record) (out []byte) {
	var own [256]bool
	for _, t := range host {
		out, own[t.Type] = AppendTLV(out, t), true
	}
	out = tell(out, s.Added, &own, about)
	for _, t := range s.Added {
		own[t.Type] = true
	}
	return s.pass(out, client, &own)
}

// pass appends a client's extensions that are passed on, but those of some types.
func (s *Sender) pass(out, client []byte, but *[256]bool) []byte {
	came, _ := SplitTLVs(client)
	for _, t := range came {
		if (s.All || s.Passed[t.Type]) && !but[t.Type] {
			out = AppendTLV(out, t)
		}
	}
	return out
}

// Tell returns the extension with what it says of a connection, as far as there is room for it.
func (a *Added) Tell(about *access.Record) TLV {
	if a.Format == nil {
		return a.TLV
	}
	v := a.Format.Append(nil, about)
	return TLV{a.Type, v[:min(len(v), math.MaxUint16)]}
}

// A Policy says what becomes of a client's extensions where others are added.
type Policy uint8

// The policies.
const (
	IfNone    Policy = iota // others are added where there is no header
	Overwrite               // others take the place of those of the same type
	Add                     // all stay
)

// Merge adds extensions to those that came with a header; had says that there was one.
func (p Policy) Merge(client []byte, had bool, more []Added, about *access.Record) []byte {
	if p == IfNone && had {
		return client
	}
	if p == Overwrite {
		var own [256]bool
		out := tell(nil, more, &own, about)
		for _, a := range more {
			own[a.Type] = true
		}
		all := Sender{All: true}
		return all.pass(out, client, &own)
	}
	return tell(bytes.Clone(client), more, new([256]bool), about)
}

// tell appends extensions but those of some types. Those with given values come first, as in Envoy. Without a connection
// to tell of, the others are left out.
func tell(out []byte, list []Added, but *[256]bool, about *access.Record) []byte {
	for _, told := range [...]bool{false, true} {
		for _, a := range list {
			if (a.Format != nil) == told && !but[a.Type] && !(told && about == nil) {
				out = AppendTLV(out, a.Tell(about))
			}
		}
	}
	return out
}
