// Package access writes access logs in Envoy's formats.
//
// A [Record] holds what may be said about one stream; the shard fills it. A
// [Format] is compiled once from Envoy's command operators ("%REQ(:METHOD)%") and
// appends one line per record, as text or JSON, without allocating for the formats
// people use. An operator whose data this proxy does not have is refused by name
// when the format is compiled, never printed as "-". A [Sink] collects lines per
// shard and writes them from a goroutine of its own, so that a slow disk costs
// lines (counted), never requests.
//
// Header operations use the same operators: proxy/route compiles them with
// [Compile].
//
// When a line is written, and which filters decide about it, belongs to the
// connection manager and proxy/build.
package access
