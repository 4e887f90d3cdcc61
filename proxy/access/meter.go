package access

// A Meter counts the bytes of a stream on one side, as Envoy counts them.
//
// Over HTTP/1.1 fields are counted with their colon and line end (received without, sent with the space between), and
// start lines and empty lines only as a part of everything. Over HTTP/2 they are header blocks as they are on the wire, with
// the heads of their frames.
type Meter struct {
	WireIn, WireOut     uint64 // with everything: heads, frames, chunks
	HeaderIn, HeaderOut uint64 // fields, with those of trailers
	PlainIn, PlainOut   uint64 // fields before they were compressed
}
