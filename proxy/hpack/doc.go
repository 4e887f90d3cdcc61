// Package hpack compresses header fields for HTTP/2 (RFC 7541).
//
// A [Decoder] turns a header block into the fields of a header.Map; an [Encoder]
// appends fields to a buffer. Both keep their table in one linear buffer and allocate
// nothing once it has grown to the size that the connection needs; a connection that
// has not sent a field owns no table.
//
// What a table would not help, the encoder does not put there: values that differ
// from request to request (":path", "content-length", "x-request-id", ...), and never
// secrets ("authorization", "cookie", whatever came marked as sensitive), so
// that nobody who shares the connection can guess them by the size of what follows
// (section 7.1). Strings are written as they are: Huffman coding costs more time
// than the bytes are worth between neighbours.
//
// The decoder checks names and values when they are written out; an entry of the
// table was checked when it was put there, and remembers what was wrong. A bad field
// does not disturb the state that both ends share, so it spoils its message and not its
// connection.
package hpack
