package stats

import "sync/atomic"

// A Hash is a gauge without a sign: it stands for something, such as the version of a configuration, or may be larger than any int64.
type Hash struct{ v atomic.Uint64 }

// Set replaces the hash.
func (h *Hash) Set(v uint64) { h.v.Store(v) }

// Value returns the hash, 0 at first.
func (h *Hash) Value() uint64 { return h.v.Load() }

// A Text is a word among numbers, such as the version of a configuration. The Prometheus form has none.
type Text struct{ v atomic.Pointer[string] }

// Set replaces the text.
func (t *Text) Set(v string) { t.v.Store(&v) }

// Value returns the text, empty at first.
func (t *Text) Value() string {
	if v := t.v.Load(); v != nil {
		return *v
	}
	return ""
}
