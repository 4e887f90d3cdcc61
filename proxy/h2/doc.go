// Package h2 speaks HTTP/2 (RFC 9113) as server and as client. It does no I/O and
// reads no clock but the one it is given: bytes in, events out, frames appended to
// an [Output], which a drive.Conn is.
//
// # The two ends
//
// A [Conn] is made by [NewServer] or [NewClient]. The driver's input goes to
// [Conn.Feed], which consumes whole frames. Output that has drained is announced by
// [Conn.OnDrained], the end of the transport by [Conn.Close]. An error of Feed means
// that the connection is over: a GOAWAY has been written, every stream has heard
// OnReset, and the caller closes the transport once that is flushed.
//
// Events of the connection go to its [Handler], those of a stream to the stream's
// [StreamHandler]. A server's streams are begun by the client: Handler.OnStream names
// their handler and the maps for headers and trailers. A client's are begun by
// [Conn.Open]. From there both are alike:
//
//	s.SendHeaders(m, end)   request or response, also s.SendInformational(m)
//	s.SendData(b, end)
//	s.SendTrailers(m)       ends the message
//	s.Full()                whoever feeds the stream pauses until OnDrained
//	s.Pause(); s.Resume()   what is received is not taken for now
//	s.Reset(code)           break it off; the handler hears nothing more
//	s.Release()             the caller is done with s
//
// A stream's memory is used again only after Release, so a pointer that is held for too
// long meets a dead stream on which everything does nothing, and never somebody
// else's. Release is due exactly once, after OnReset or Reset as well.
//
// # Headers
//
// Both sides see the form of package header that HTTP/1.1 has here: pseudo fields in
// the map, "host" as ":authority", cookie crumbs joined, and an extended CONNECT (RFC
// 8441) as the upgrade that it would be in HTTP/1.1: GET with "upgrade" and
// "connection: upgrade", answered by 101. So WebSockets pass from any version to any
// other without code above. A plain CONNECT stays one. The bytes of received
// maps are the map's own: they live until it is reset. Maps that are sent are
// encoded straight into the output and not changed.
//
// # Flow control
//
// Bytes that were received are credited to their sender when they have been handed to
// the handler and the stream is not paused: a caller that pauses while what it
// forwards to is Full has the sender stopped by its window. A paused stream gets no
// data, trailers or end; what arrives is kept, which the window bounds, and handed over after
// Resume by the next Feed, OnDrained or [Conn.Deliver]. What is sent
// goes out as far as both windows and the output's mark allow, and waits in the
// stream otherwise; ready streams take turns, a frame each.
//
// # Ends of connections
//
// [Conn.Drain] announces that a server is going away and refuses nothing; some round
// trips later [Conn.GoAway] names the last stream it will serve. [Conn.Done] says when
// no stream is left. A client that is told so hears Handler.OnGoAway; its streams
// above the named one are reset with Reset.Unseen: the server has not acted on them and
// they can be sent anew. How many streams a client may have is the peer's to say
// ([Conn.CanOpen]); waiting for a place is the pool's matter, and Handler.OnClosed its signal.
//
// # Defence
//
// [Limits] holds Envoy's limits with Envoy's meaning and defaults: frames that wait
// unsent, empty frames, PRIORITY and WINDOW_UPDATE frames, streams reset before they
// had an answer. What a shard keeps of paused streams has a bound for all of its connections together:
// beyond it, streams of which more comes are reset. Header blocks are bounded encoded and decoded. Timers are the caller's:
// [Conn.Keepalive] sends PINGs and misses answers, [Stream.Stalled] shows a stream whose peer
// gives no window, and [Conn.Sweep] ends those that were released in that state.
//
// Priorities are read and ignored; PUSH_PROMISE is refused.
package h2
