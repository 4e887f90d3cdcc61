package ratelimit

import (
	"net/netip"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/route"
)

// Expression is what an expression says of a request.
type Expression struct {
	Key      string
	Value    *access.Expression
	Optional bool // without a value the descriptor has one entry less
}

func (a *Expression) add(d *Descriptors, _ *route.Request, rec *access.Record) bool {
	from := len(d.bytes)
	out, ok := a.Value.AppendText(d.bytes, rec)
	if !ok {
		return a.Optional
	}
	d.bytes = out
	return d.put(a.Key, d.bytes[from:len(d.bytes):len(d.bytes)])
}

// Input is what a matcher would see of a request. As in Envoy it is no entry where it is empty, and the name of the extension is its key.
type Input struct {
	Key   string
	Value func(*Descriptors, *route.Request, *access.Record) ([]byte, bool)
}

func (a *Input) add(d *Descriptors, q *route.Request, rec *access.Record) bool {
	v, ok := a.Value(d, q, rec)
	if !ok || len(v) == 0 {
		return ok
	}
	return d.put(a.Key, v)
}

// FromRequest is an input of matchers of routes.
func FromRequest(in func(*route.Request) ([]byte, bool)) func(*Descriptors, *route.Request, *access.Record) ([]byte, bool) {
	return func(_ *Descriptors, q *route.Request, _ *access.Record) ([]byte, bool) { return in(q) }
}

// FromRecord is what a format says of the request and its connection. There is none of what is not known.
func FromRecord(f *access.Format) func(*Descriptors, *route.Request, *access.Record) ([]byte, bool) {
	return func(d *Descriptors, _ *route.Request, rec *access.Record) ([]byte, bool) {
		from := len(d.bytes)
		d.bytes = f.Append(d.bytes, rec)
		return d.bytes[from:len(d.bytes):len(d.bytes)], len(d.bytes) > from
	}
}

// Parameter is the first query parameter of a name.
func Parameter(name string) func(*Descriptors, *route.Request, *access.Record) ([]byte, bool) {
	return func(d *Descriptors, q *route.Request, _ *access.Record) ([]byte, bool) {
		return d.parameter(q.Path, name)
	}
}

var local = []byte("local")

// FromHere says of a client on this machine that it is local, and nothing of others.
func FromHere(_ *Descriptors, _ *route.Request, rec *access.Record) ([]byte, bool) {
	ip := rec.DownstreamRemote.Addr().Unmap()
	return local, ip.IsLoopback() || ip.IsValid() && ip == address(rec.DownstreamLocal)
}

func address(a netip.AddrPort) netip.Addr { return a.Addr().Unmap() }
