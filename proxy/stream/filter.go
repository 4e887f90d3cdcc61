// Package stream is the HTTP connection manager: it takes requests from
// connections, leads each through its filters, and brings the response back.
//
// A [Stream] is one request with its response. It does not know which version of HTTP carries
// it: a [Downstream] writes responses, a [Terminal] (the router filter) sends requests. A
// [Filter] looks at both on their way and may change, answer, or hold them.
//
// Everything happens inside the turns of the shard that has the connection. A
// filter that must wait returns Stop and works elsewhere; its answer comes back
// by [Stream.Resume] with the generation of the stream that it was about, so that an answer that
// comes too late touches nobody else's request. A stream that waits, and a peer that
// takes its bytes slowly, stop the bytes from the other side; nothing is collected
// beyond the marks that the configuration sets.
//
// A stream's memory (maps, buffers, filters) is used again for the next request. Bytes of
// fields are valid until the stream has ended; a filter keeps nothing after OnEnd.
//
// What happens when somebody leaves early is Envoy's: a client that closes its
// sending side while its request is in flight has gone, and its request is given up
// (DC). A response that begins before the request is complete ends the connection.
package stream

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
)

// A Verdict is a filter's answer.
type Verdict uint8

const (
	// Continue passes the message on.
	Continue Verdict = iota
	// Stop holds the message until Resume. A filter that has replied returns it too.
	Stop
	// Collect holds a message's headers until all of it has come, and then goes on.
	// Only [Stream.CollectRequest] and [Stream.CollectResponse] return it.
	Collect
	// Taken says that a filter has kept a piece of a body, and its end if it
	// was the last one; [Stream.InjectRequest] or [Stream.InjectResponse] passes it on later. Trailers that
	// it has kept go on with [Stream.EndRequest] or [Stream.EndResponse].
	Taken
)

// A Filter handles one stream. The chain calls it inside its shard's turn, so its
// own fields need no lock, and it must not block: a filter that waits returns
// Stop, works elsewhere, and has [Stream.Resume] called.
type Filter interface {
	OnRequest(*Stream, *header.Map) Verdict
	OnResponse(*Stream, *header.Map) Verdict
}

// A Buffer is a piece of a body. A filter may put other bytes in its place; they
// must be valid until it is called again.
type Buffer struct{ Bytes []byte }

// A DataFilter also sees bodies. Streams without one have their bytes passed through
// untouched. Stop keeps the piece and all that follows until Resume.
type DataFilter interface {
	Filter
	OnRequestData(s *Stream, b *Buffer, end bool) Verdict
	OnResponseData(s *Stream, b *Buffer, end bool) Verdict
}

// A Watcher is a data filter that makes nothing of bodies, at most has them wait. Streams without other ones have theirs
// in pieces as large as they come: every mesh has such filters in its chains.
type Watcher interface {
	DataFilter
	Watches()
}

// A TrailerFilter also sees trailers. They can be held back until [Stream.Proceed].
type TrailerFilter interface {
	Filter
	OnRequestTrailers(*Stream, *header.Map) Verdict
	OnResponseTrailers(*Stream, *header.Map) Verdict
}

// An Unasked filter also sees the proxy's own answers to requests that never came to it, because another filter, or none
// at all, has answered before. OnUnasked takes the place of OnRequest then. It may do nothing.
type Unasked interface {
	Filter
	OnUnasked(*Stream)
}

// A Collector sees the body of a message that it has collected, before its headers go on, and
// returns the body that goes on in its place.
type Collector interface {
	OnRequestWhole(s *Stream, body []byte) []byte
	OnResponseWhole(s *Stream, body []byte) []byte
}

// An Ender is told when its stream is over. The filter may then be used for another stream.
type Ender interface{ OnEnd(*Stream) }

// A Terminal is the last filter: it sends the request somewhere and has the stream respond.
type Terminal interface {
	// OnRequest begins. The map stays valid until OnEnd.
	OnRequest(s *Stream, m *header.Map, end bool)
	OnRequestData(b []byte, end bool)
	OnRequestTrailers(m *header.Map)
	// Full says that the request's body should pause; the terminal calls ResumeRequest.
	Full() bool
	// PauseResponse and ResumeResponse say whether the client can take more.
	PauseResponse()
	ResumeResponse()
	// OnEnd ends the exchange, whatever state it is in. Nothing may be called on the stream afterwards.
	OnEnd(s *Stream)
}

// A Holder is a filter or a terminal that knows how many bytes of the stream it keeps.
type Holder interface{ Held() int }

// A Factory makes the filters of a chain: New is called once per stream that the
// shard holds in its stock, not per request. The last factory's New returns a [Terminal], all
// others' a [Filter].
type Factory interface {
	Name() string
	New(w *pool.Worker) any
}

// A Downstream writes responses in some version of HTTP.
type Downstream interface {
	WriteInterim(m *header.Map)
	WriteHeaders(m *header.Map, end bool)
	WriteData(b []byte, end bool)
	WriteTrailers(m *header.Map)
	// Alive says that something happens, or that the request has another route, which may have an idle time of its own.
	Alive()
	// Reset breaks off a response that has begun.
	Reset()
	Full() bool
	// PauseRequest and ResumeRequest say whether the request's body can be taken.
	PauseRequest()
	ResumeRequest()
	// Measure brings up to date what the codec alone knows of the bytes on the wire.
	Measure(*access.Meter)
	// Ended is called when the stream is over; it must not be used any more.
	Ended()
}
