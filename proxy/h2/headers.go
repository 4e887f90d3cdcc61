package h2

import (
	"bytes"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/hpack"
	"github.com/mallamesh/malla/proxy/stats"
)

// onHeaders takes HEADERS (section 6.2).
func (c *Conn) onHeaders(flags byte, id uint32, p []byte) *Error {
	if id == 0 {
		return errStreamZero
	}
	p, err := unpad(flags, p)
	if err != nil {
		return err
	}
	if flags&flagPriority != 0 {
		if len(p) < 5 {
			return errLength
		}
		if err := priority(id, p); err != nil {
			return err
		}
		p = p[5:]
	}
	if err := c.countEmpty(len(p) == 0 && flags&flagEndStream == 0); err != nil {
		return err
	}
	if flags&flagEndHeaders != 0 {
		return c.onBlock(flags&flagEndStream != 0, id, p)
	}
	c.block, c.blockID, c.blockFlags = append(c.block[:0], p...), id, flags
	if c.server && id&1 == 1 && id > c.history.last {
		c.open(id) // a request begins with its first frame, however long the rest of its headers takes
	}
	return nil
}

// onContinuation takes CONTINUATION (section 6.10). A peer that never ends its block is
// stopped by the size that it may have.
func (c *Conn) onContinuation(flags byte, id uint32, p []byte) *Error {
	if c.blockID == 0 {
		return errContinuation
	}
	if err := c.countEmpty(len(p) == 0); err != nil {
		return err
	}
	// Twice what the fields may have: a message that is somewhat too large costs its stream only.
	if len(c.block)+len(p) > 2*c.o.MaxHeaderBytes+minFrame {
		return errBlock
	}
	c.block = append(c.block, p...)
	if flags&flagEndHeaders == 0 {
		return nil
	}
	c.blockID = 0
	err := c.onBlock(c.blockFlags&flagEndStream != 0, id, c.block)
	if cap(c.block) > maxSpareBytes {
		c.block = nil
	}
	return err
}

// onBlock finds out whose a whole header block is.
func (c *Conn) onBlock(end bool, id uint32, block []byte) *Error {
	if s := c.table.get(id); s != nil {
		if s.remoteEnd {
			return errHalfClosed
		}
		s.HeaderBytes.In += uint64(frameHeader + len(block))
		switch {
		case s.gotHeaders:
			return c.onTrailers(s, end, block)
		case c.server:
			return c.onRequest(s, end, block)
		}
		return c.onResponse(s, end, block)
	}
	switch {
	case id&1 == 0:
		return errStreamID
	case id > c.history.last && !c.server:
		return errIdle
	case id > c.history.last:
		return c.onNew(end, id, block)
	}
	switch c.history.of(id) {
	case skipped:
		return errStreamID // section 5.1.1
	case used:
		return errClosed
	}
	return c.ignore(block)
}

// ignore decodes a block that nobody wants: both ends must keep the same table.
func (c *Conn) ignore(block []byte) *Error {
	c.shard.drop.Reset()
	if _, err := c.dec.Decode(block, &c.shard.drop); err != nil {
		return errCompression
	}
	return nil
}

// open begins a request, and returns nil if nobody wants it.
func (c *Conn) open(id uint32) *Stream {
	c.history.begin(id)
	if c.leaving { // the client was told, and sends it elsewhere
		c.history.set(id, abandoned)
		return nil
	}
	if uint64(c.active) >= uint64(c.o.MaxConcurrentStreams) {
		c.history.set(id, abandoned)
		c.o.Stats.StreamRefusedErrors.Inc()
		c.writeReset(id, RefusedStream)
		return nil
	}
	s := c.begin(nil, nil, nil)
	s.id = id
	c.table.put(s)
	gen := s.gen
	h, m, trailers := c.h.OnStream(s)
	if s.gen != gen || s.gone {
		return nil
	}
	s.h, s.headers, s.trailer = h, m, trailers
	return s
}

// onNew takes a request whose headers have come in one piece.
func (c *Conn) onNew(end bool, id uint32, block []byte) *Error {
	s := c.open(id)
	if s == nil {
		return c.ignore(block)
	}
	s.HeaderBytes.In = uint64(frameHeader + len(block))
	return c.onRequest(s, end, block)
}

// onRequest takes a request's headers.
func (c *Conn) onRequest(s *Stream, end bool, block []byte) *Error {
	m := s.headers
	m.Reset()
	flaw, err := c.dec.Decode(block, m)
	if err != nil {
		return errCompression
	}
	s.gotHeaders = true
	if details := flawed(flaw); details != "" {
		return c.refuse(s, details)
	}
	if details := s.request(m, end); details != "" {
		return c.refuse(s, details)
	}
	if end {
		s.remoteEnd = true
	}
	s.h.OnHeaders(m, end)
	return nil
}

// onResponse takes a response, or a 1xx before it.
func (c *Conn) onResponse(s *Stream, end bool, block []byte) *Error {
	m := s.headers
	if s.released {
		return c.dropResponse(s, end, block)
	}
	m.Reset()
	flaw, err := c.dec.Decode(block, m)
	if err != nil {
		return errCompression
	}
	if details := flawed(flaw); details != "" {
		return c.refuse(s, details)
	}
	interim, details := s.response(m, end)
	switch {
	case details != "":
		return c.malformed(s, details)
	case interim:
		s.h.OnInformational(m)
		return nil
	}
	s.gotHeaders = true
	closed := end && c.remoteEnded(s)
	s.h.OnHeaders(m, end)
	if closed {
		c.h.OnClosed()
	}
	return nil
}

func (c *Conn) dropResponse(s *Stream, end bool, block []byte) *Error {
	err := c.ignore(block)
	if err == nil && end && c.remoteEnded(s) {
		c.h.OnClosed()
	}
	return err
}

// onTrailers ends a message.
func (c *Conn) onTrailers(s *Stream, end bool, block []byte) *Error {
	if s.released {
		return c.dropResponse(s, end, block)
	}
	if c.server { // Envoy counts those of requests only
		c.o.Stats.Trailers.Inc()
	}
	m := s.trailer
	m.Reset()
	flaw, err := c.dec.Decode(block, m)
	if err != nil {
		return errCompression
	}
	if details := flawed(flaw); details != "" {
		return c.refuse(s, details)
	}
	if !plainFields(m) || m.Has(header.ContentLength) { // which would be another than that of the headers, or in vain
		return c.malformed(s, detailsHeader)
	}
	if !end || s.sized && s.left != 0 {
		return c.malformed(s, detailsMessaging)
	}
	closed := c.remoteEnded(s)
	if s.paused || s.holding() {
		s.inputEnd, s.inputTail = true, true
	} else {
		s.h.OnTrailers(m)
	}
	if closed {
		c.h.OnClosed()
	}
	return nil
}

// flawed returns Envoy's details for a flaw that the decoder found, "" for none.
func flawed(flaw hpack.Flaw) string {
	switch {
	case flaw == 0:
		return ""
	case flaw&hpack.TooLarge != 0:
		return detailsTooMany
	}
	return detailsHeader
}

// refuse ends a message that has a flaw. One that is only more, or other, than the configuration
// allows never costs the connection.
func (c *Conn) refuse(s *Stream, details string) *Error {
	if details == detailsTooMany && s.headers.Len() < c.o.MaxHeaders {
		details = detailsTooLarge
	}
	switch details {
	case detailsTooMany, detailsTooLarge, detailsUnderscore:
		c.countFlaw(details)
		return c.breakOff(s, InternalError, details)
	}
	return c.malformed(s, details)
}

// malformed ends the stream of a malformed message, or as Envoy does, its connection (section 8.1.1).
func (c *Conn) malformed(s *Stream, details string) *Error {
	c.countFlaw(details)
	if c.o.StreamErrors {
		return c.breakOff(s, ProtocolError, details)
	}
	if details == detailsMessaging {
		return errMessaging
	}
	return errHeader
}

// wrongLength ends the stream of a body that differs from its content-length, as in Envoy whatever StreamErrors says, and is
// not counted: whoever sends it need not be who opened the connection, on which others have their streams. A length that the headers
// or trailers alone show to be wrong is a malformed message.
func (c *Conn) wrongLength(s *Stream) *Error {
	return c.breakOff(s, ProtocolError, detailsMessaging)
}

// A fieldScan collects what the fields of one message say.
type fieldScan struct {
	pseudo  uint8 // a bit for each of them
	cookies int
	host    bool
	length  int64 // -1: none
}

func bit(t header.Token) uint8 { return 1 << (t - header.Authority) }

// scan checks the fields one by one (section 8.2 and 8.3) and reports whether they are in order.
func (f *fieldScan) scan(m *header.Map) bool {
	f.length = -1
	regular := false
	fields := m.Fields()
	for i := range fields {
		t := fields[i].Token
		if t == header.None {
			regular = true
			continue
		}
		if t.Pseudo() {
			if regular || f.pseudo&bit(t) != 0 {
				return false
			}
			f.pseudo |= bit(t)
			continue
		}
		regular = true
		switch t {
		case header.Connection, header.KeepAlive, header.ProxyConnection, header.TransferEncoding, header.Upgrade:
			return false
		case header.TE:
			if string(fields[i].Value) != "trailers" {
				return false
			}
		case header.ContentLength:
			n, ok := header.ParseLength(fields[i].Value)
			if !ok || f.length >= 0 {
				return false
			}
			f.length = n
		case header.Cookie:
			f.cookies++
		case header.Host:
			if f.host || !header.ValidAuthority(fields[i].Value) { // a second one could be read by somebody else
				return false
			}
			f.host = true
		}
	}
	return true
}

// plainFields reports whether m can be trailers.
func plainFields(m *header.Map) bool {
	var f fieldScan
	return f.scan(m) && f.pseudo == 0
}

var (
	methodGET     = []byte("GET")
	optionUpgrade = []byte("upgrade")
	status101     = []byte("101")
)

// request checks a request (section 8.3.1) and brings it into the form that HTTP/1.1 has here.
// It returns Envoy's details if the request is malformed.
func (s *Stream) request(m *header.Map, end bool) string {
	o := &s.c.o
	var f fieldScan
	if !f.scan(m) || f.pseudo&bit(header.Status) != 0 {
		return detailsHeader
	}
	if o.DropUnderscores || o.RejectUnderscores {
		if details := underscores(m, o.RejectUnderscores, o.Stats); details != "" {
			return details
		}
	}
	if f.host {
		takeHost(m)
	}
	method, path, authority := m.Get(header.Method), m.Get(header.Path), m.Get(header.Authority)
	if f.pseudo&bit(header.Method) == 0 {
		return detailsMessaging
	}
	if !header.ValidToken(method) || !header.ValidAuthority(authority) {
		return detailsHeader
	}
	s.connect = string(method) == "CONNECT"
	s.upgrade = f.pseudo&bit(header.Protocol) != 0
	switch {
	case s.connect && f.pseudo&bit(header.Authority) == 0:
		return detailsMessaging
	case s.upgrade && (!s.connect || !o.AllowConnect || len(authority) == 0 || !header.ValidToken(m.Get(header.Protocol))):
		return detailsHeader
	case s.connect && !s.upgrade:
		if f.pseudo&(bit(header.Path)|bit(header.Scheme)) != 0 || len(authority) == 0 {
			return detailsMessaging
		}
	case f.pseudo&bit(header.Scheme) == 0, f.pseudo&bit(header.Path) == 0,
		len(authority) == 0: // RFC 9113 would allow it; Envoy does not
		return detailsMessaging
	case !validScheme(m.Get(header.Scheme)), len(path) == 0, !header.ValidTarget(path):
		return detailsHeader
	case path[0] != '/' && (string(path) != "*" || string(method) != "OPTIONS"):
		return detailsMessaging
	}
	if f.length >= 0 && !s.connect {
		s.sized, s.left = true, f.length
		if end && f.length != 0 {
			return detailsMessaging
		}
	}
	if f.cookies > 1 {
		joinCookies(m)
	}
	m.Join(header.JoinedInRequests)
	if s.upgrade {
		s.connect = false
		m.Set(header.Method, methodGET)
		m.Add(header.Upgrade, m.Get(header.Protocol))
		m.Add(header.Connection, optionUpgrade)
		m.Remove(header.Protocol)
	}
	return ""
}

// validScheme reports whether b can be the scheme of a URI (RFC 3986, section 3.1).
func validScheme(b []byte) bool {
	for i, c := range b {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '+' && c != '-' && c != '.' && (c < '0' || c > '9')) {
			return false
		}
	}
	return len(b) > 0
}

// takeHost has ":authority" win over "host", which counts only where there is no other.
func takeHost(m *header.Map) {
	if !m.Has(header.Authority) {
		m.Add(header.Authority, m.Get(header.Host))
	}
	m.Remove(header.Host)
}

// underscores removes the fields with an underscore in their name, or says what is wrong with them.
func underscores(m *header.Map, reject bool, st *stats.HTTP2) string {
	for i := 0; i < m.Len(); i++ {
		f := m.At(i)
		if f.Token != header.None || bytes.IndexByte(f.Name, '_') < 0 {
			continue
		}
		if reject {
			return detailsUnderscore
		}
		st.DroppedHeadersWithUnderscores.Inc()
		m.RemoveName(f.Name)
		i--
	}
	return ""
}

// joinCookies makes one field of the crumbs (section 8.2.3).
func joinCookies(m *header.Map) {
	n := 0
	fields := m.Fields()
	for i := range fields {
		if fields[i].Token == header.Cookie {
			n += len(fields[i].Value) + 2
		}
	}
	joined := m.Grow(n)[:0]
	for i := range fields {
		if fields[i].Token == header.Cookie {
			joined = append(append(joined, fields[i].Value...), "; "...)
		}
	}
	m.Set(header.Cookie, joined[:len(joined)-2])
}

// response checks a response (section 8.3.2) and says whether it is an interim one.
func (s *Stream) response(m *header.Map, end bool) (interim bool, details string) {
	var f fieldScan
	if !f.scan(m) || f.pseudo != bit(header.Status) {
		return false, detailsHeader
	}
	v := m.Get(header.Status)
	if len(v) != 3 || v[0] < '1' || v[0] > '5' || v[1] < '0' || v[1] > '9' || v[2] < '0' || v[2] > '9' {
		return false, detailsHeader
	}
	if v[0] == '1' {
		if end || string(v) == "101" {
			return false, detailsHeader
		}
		return true, ""
	}
	if f.cookies > 1 {
		joinCookies(m)
	}
	m.Join(header.JoinedInResponses)
	if f.length >= 0 && string(v) == "204" { // which has none (RFC 9110, section 8.6); Envoy lets one of 0 pass for none
		if f.length > 0 {
			return false, detailsHeader
		}
		m.Remove(header.ContentLength)
	}
	switch {
	case s.head || string(v) == "204" || string(v) == "304": // whatever length it has, nothing follows it
		s.sized, s.left = true, 0
	case f.length >= 0 && !s.connect && !s.upgrade:
		s.sized, s.left = true, f.length
		if end && f.length != 0 {
			return false, detailsMessaging
		}
	}
	if s.upgrade && string(v) == "200" {
		m.Set(header.Status, status101)
		m.Add(header.Upgrade, s.protocol)
		m.Add(header.Connection, optionUpgrade)
	}
	return false, ""
}
