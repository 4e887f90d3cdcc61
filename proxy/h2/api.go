package h2

import "github.com/mallamesh/malla/proxy/header"

// An Output takes a connection's bytes; drive.Conn is one. Room returns the
// output to append to with place for n bytes; the longer slice goes to End before
// anything else is called. Buffered is what has not left yet.
type Output interface {
	Room(n int) []byte
	End(b []byte)
	Buffered() int
	Full() bool
}

// A Handler hears of a connection. Its methods are called from inside Feed and
// the other methods of the connection; they may use the connection and its
// streams, except Feed.
type Handler interface {
	// OnStream says that a client begins a request, and asks for who takes it and for where
	// its headers and trailers go. Only servers hear it. The stream may come to nothing: then
	// OnReset is all that follows.
	OnStream(s *Stream) (h StreamHandler, headers, trailers *header.Map)
	// OnSettings says that the peer's settings have come or changed: see CanOpen and PeerAllowsConnect.
	OnSettings()
	// OnGoAway says that the peer wants to end the connection: no new stream can be opened.
	// Streams that it leaves out have been reset already.
	OnGoAway(code Code, debug []byte)
	// OnClosed says that a stream has ended, on both sides or by a reset: one more can be
	// open, or the connection may be Done.
	OnClosed()
	// OnHeld says that a stream was resumed for which input was kept: Deliver is to be
	// called soon, though not from inside this call.
	OnHeld()
}

// A StreamHandler hears of a stream. It may call any method of stream and connection
// except Feed. Maps are those that were named for the stream.
type StreamHandler interface {
	// OnHeaders brings a request or a final response.
	OnHeaders(m *header.Map, end bool)
	// OnInformational brings a 1xx response other than the 101 that an extended CONNECT was
	// made into. Only clients hear it. The map is used again for what follows.
	OnInformational(m *header.Map)
	// OnData brings a piece of the body, valid during the call.
	OnData(b []byte, end bool)
	// OnTrailers ends the message.
	OnTrailers(m *header.Map)
	// OnReset says that the stream has ended before its time. It is the last call.
	OnReset(r Reset)
	// OnDrained says that the stream is not Full any more.
	OnDrained()
}
