package access

// A Format turns records into text. It is made once, by [Compile], [CompileJSON]
// or [Named], and used by any number of shards.
type Format struct {
	parts []part
}

// A part is a piece of a format: text as it stands, or an operator.
type part struct {
	text []byte
}

// Append appends one record to dst. Text formats bring their own line end, as
// Envoy's do; JSON lines end with one.
func (f *Format) Append(dst []byte, r *Record) []byte {
	return dst
}
