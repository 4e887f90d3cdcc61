package h2

import "github.com/mallamesh/malla/proxy/header"

// A Stream is one request and its response. See the package's comment for who may call what when.
type Stream struct {
	c       *Conn
	h       StreamHandler
	id      uint32
	gen     uint32 // counts the uses of the memory
	began   int64
	moved   int64 // when DATA was written last
	headers *header.Map
	trailer *header.Map

	next        *Stream // in the table's chain, or in stock
	list        *list
	prev, after *Stream

	sendWindow int
	recvWindow int // what the peer may still send
	unsaid     int // bytes that we have taken and not told the peer yet
	unpaid     int // bytes that were handed over while the stream was paused

	pending     []byte // to send, from off on
	off         int
	tail        *header.Map // trailers to send behind them; in tailMap
	tailMap     *header.Map
	input       queue  // held while paused
	inputEnd    bool   // the end of the message is held too
	inputTail   bool   // with trailers
	left        int64  // of a sized message
	protocol    []byte // of an extended CONNECT
	HeaderBytes Bytes  // of header blocks on the wire
	BodyBytes   Bytes  // of DATA frames on the wire

	sentHeaders bool // other than 1xx
	gotHeaders  bool
	localEnd    bool // we have been given the end
	localDone   bool // and have written it
	remoteEnd   bool // the peer's end has come
	gone        bool // the peer's and our interest in it has ended: no frame is sent or taken
	released    bool
	sized       bool // the peer's message has a content-length
	paused      bool
	full        bool
	head        bool // a client's request is HEAD
	connect     bool // plain CONNECT
	upgrade     bool // extended CONNECT
	discard     bool // released while its output is still going out
}

// Bytes counts both directions.
type Bytes struct{ In, Out uint64 }

// Open begins a request of a client; SendHeaders comes next. It returns nil if CanOpen is false. headers and
// trailers take the response.
func (c *Conn) Open(h StreamHandler, headers, trailers *header.Map) *Stream {
	if c.server || !c.CanOpen() {
		return nil
	}
	s := c.begin(h, headers, trailers)
	c.unsent.push(s)
	return s
}

func (c *Conn) begin(h StreamHandler, headers, trailers *header.Map) *Stream {
	s := c.shard.get()
	*s = Stream{
		c: c, h: h, headers: headers, trailer: trailers, began: c.shard.now(), gen: s.gen + 1,
		sendWindow: c.peer.window, recvWindow: c.o.StreamWindow,
		pending: s.pending[:0], tailMap: s.tailMap, protocol: s.protocol[:0],
	}
	c.active++
	c.o.Stats.StreamsActive.Inc()
	c.count.opened++
	return s
}

// ID is the stream's identifier; 0 until a client has sent headers.
func (s *Stream) ID() uint32 { return s.id }

// Conn is the connection.
func (s *Stream) Conn() *Conn { return s.c }

// Ended reports whether the peer's message has come to its end.
func (s *Stream) Ended() bool { return s.remoteEnd }

// Gone reports that nothing more is sent or received.
func (s *Stream) Gone() bool { return s.gone }

// SendInformational sends a 1xx response.
func (s *Stream) SendInformational(m *header.Map) {
	if s.gone || s.sentHeaders {
		return
	}
	b, at := s.c.openHeaders(roomFor(m), s.id)
	b = s.c.encodeResponse(b, m, false)
	s.HeaderBytes.Out += uint64(s.c.closeHeaders(b, at, false))
	if s.c.out.Full() { // no window bounds these, and whoever sends them may send as many as it likes
		s.wait()
	}
}

// SendHeaders sends a request or a final response. end says that nothing follows.
func (s *Stream) SendHeaders(m *header.Map, end bool) {
	c := s.c
	if s.gone || s.sentHeaders {
		return
	}
	s.sentHeaders, s.localEnd = true, end
	if !c.server {
		s.number()
		s.head = string(m.Get(header.Method)) == "HEAD"
	}
	b, at := c.openHeaders(roomFor(m), s.id)
	if c.server {
		b = c.encodeResponse(b, m, s.upgrade)
	} else {
		b = s.encodeRequest(b, m)
	}
	s.HeaderBytes.Out += uint64(c.closeHeaders(b, at, end))
	if end {
		s.sent()
	}
}

// number gives a client's stream its identifier: they count upwards in the order of use.
func (s *Stream) number() {
	c := s.c
	s.unlink()
	s.id = c.nextID
	c.nextID += 2
	c.history.begin(s.id)
	c.table.put(s)
}

// SendTrailers ends the message.
func (s *Stream) SendTrailers(m *header.Map) {
	if s.gone || s.localEnd || !s.sentHeaders {
		return
	}
	s.localEnd = true
	switch {
	case m.Len() == 0 && s.queued() == 0:
		s.writeData(nil, true)
	case m.Len() == 0:
	case s.queued() == 0:
		s.writeTrailers(m)
	default:
		if s.tailMap == nil {
			s.tailMap = new(header.Map)
		}
		s.tailMap.CopyFrom(m)
		s.tail = s.tailMap
	}
}

func (s *Stream) writeTrailers(m *header.Map) {
	b, at := s.c.openHeaders(roomFor(m), s.id)
	b = s.c.encodeFields(b, m, false)
	s.HeaderBytes.Out += uint64(s.c.closeHeaders(b, at, true))
	s.sent()
}

// sent notes that our end has been written.
func (s *Stream) sent() {
	s.localDone = true
	if s.remoteEnd {
		s.c.finish(s)
	} else if s.discard {
		s.c.abandon(s, s.c.unwanted())
		s.c.h.OnClosed()
	}
}

// unwanted is what we say to a peer whose message nobody wants any more: a server has
// answered already (section 8.1), a client gives up.
func (c *Conn) unwanted() Code {
	if c.server {
		return NoError
	}
	return Cancel
}

// finish ends a stream that is complete on both sides.
func (c *Conn) finish(s *Stream) {
	c.countEnd(s, false)
	c.remove(s)
	c.h.OnClosed()
}

// remove takes a stream off the connection.
func (c *Conn) remove(s *Stream) {
	if s.gone {
		return
	}
	s.gone = true
	s.unlink()
	if s.id != 0 {
		c.table.remove(s)
	}
	c.active--
	c.o.Stats.StreamsActive.Dec()
	if s.released {
		c.recycle(s)
	}
}

// abandon resets a stream at the peer. What it still sends is not an error.
func (c *Conn) abandon(s *Stream, code Code) {
	if s.gone {
		return
	}
	if s.id != 0 && c.err == nil && !c.closed {
		c.history.set(s.id, abandoned)
		c.writeReset(s.id, code)
	}
	s.dropPending()
	s.dropInput()
	c.remove(s)
}

// kill ends a stream that somebody else has ended, and tells its handler.
func (c *Conn) kill(s *Stream, r Reset) {
	s.dropPending()
	s.dropInput()
	h, released := s.h, s.released
	c.remove(s)
	if !released {
		h.OnReset(r)
	}
	c.h.OnClosed()
}

// breakOff resets a stream because of what the peer sent on it. A client may get rid of a request by that as well as by
// RST_STREAM, and it counts alike.
func (c *Conn) breakOff(s *Stream, code Code, details string) *Error {
	c.history.set(s.id, abandoned)
	c.writeReset(s.id, code)
	err := c.countEnd(s, code != EnhanceYourCalm)
	c.kill(s, Reset{Cause: Malformed, Code: code, Details: details})
	return err
}

// Reset breaks the stream off. The handler hears nothing more.
func (s *Stream) Reset(code Code) {
	s.dropInput()
	if s.gone {
		return
	}
	c := s.c
	c.countEnd(s, false)
	s.localEnd = true
	c.abandon(s, code)
	c.h.OnClosed()
}

// Release says that the caller is done with the stream. What was given to be sent is
// still sent; a message that has no end yet is broken off.
func (s *Stream) Release() {
	if s.released {
		return
	}
	c := s.c
	s.released = true
	s.h = nil
	s.dropInput()
	switch {
	case s.gone:
		c.recycle(s)
	case !s.localEnd:
		c.countEnd(s, false)
		c.abandon(s, Cancel)
		c.h.OnClosed()
	case c.feeding && s.localDone: // the end of the peer's message may be among what is being read
		s.discard = true
		c.late = append(c.late, heldStream{s, s.gen})
	case s.localDone, !c.server:
		c.giveUp(s)
	default:
		s.discard, s.moved = true, c.shard.now()
	}
}

// giveUp ends a stream whose peer still has something to say that nobody wants.
func (c *Conn) giveUp(s *Stream) {
	c.countEnd(s, false)
	c.abandon(s, c.unwanted())
	c.h.OnClosed()
}

// giveUpLate does it for the streams that were released while input was being read.
func (c *Conn) giveUpLate() {
	for i := 0; i < len(c.late); i++ {
		if x := c.late[i]; x.s.gen == x.gen && !x.s.gone {
			c.giveUp(x.s)
		}
	}
	clear(c.late)
	c.late = c.late[:0]
}

// Sweep resets streams that were released but whose output the peer has not taken for a
// while. The caller calls it now and then; nobody else looks after them any more.
func (c *Conn) Sweep(patience int64) {
	before := c.shard.now() - patience
	for _, s := range c.table.buckets {
		for s != nil {
			next := s.next
			if s.discard && s.moved < before {
				c.countEnd(s, false)
				c.abandon(s, Cancel)
				c.stale++
				c.o.Stats.TxFlushTimeout.Inc()
			}
			s = next
		}
	}
	for ; c.stale > 0; c.stale-- {
		c.h.OnClosed()
	}
}

const maxSpareBytes = 16 << 10 // of a stream's buffers, in stock

// recycle puts a stream's memory back.
func (c *Conn) recycle(s *Stream) {
	if cap(s.pending) > maxSpareBytes {
		s.pending = nil
	}
	s.headers, s.trailer = nil, nil
	c.shard.put(s)
}
