// Package upstream leads requests through the filters of a cluster, or of a router, on
// their way to a host: once for each try, and the responses of hosts on their way back.
//
// A request is changed in place, so what one try has added to it is there when the next
// one begins, as in Envoy. Filters of this kind change messages and never wait: who builds a
// [Chain] sees to it that they always continue.
package upstream

import (
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stream"
)

// A Chain makes the filters. It must not change. A nil one is empty.
type Chain struct {
	Factories []stream.Factory // at most stream.MaxFilters
	Off       uint64           // those that are off unless a route says something to them, a bit for each
}

// Of returns the chain that counts: a cluster's own (*Chain in its configuration) in place of the other.
func Of(cluster any, other *Chain) *Chain {
	if c, ok := cluster.(*Chain); ok {
		return c
	}
	return other
}

// Filters are the filters of one try at a time. The zero value has none.
type Filters struct {
	chain *Chain
	list  []stream.Filter
	off   uint64 // for this request

	stock [maxStock]made // what was made last: the next request may go to another cluster
	next  uint8          // of stock, to be given up
}

// maxStock is how many chains keep their filters.
const maxStock = 4

type made struct {
	chain *Chain
	list  []stream.Filter
}

// Request shows them a request that is about to be sent.
func (f *Filters) Request(c *Chain, s *stream.Stream, m *header.Map) {
	if f.chain != c {
		f.make(c, s.Worker)
	}
	if len(f.list) == 0 {
		return
	}
	f.off = s.Switched(c.Factories, c.Off)
	for i, x := range f.list {
		if f.on(i) {
			x.OnRequest(s, m)
		}
	}
}

func (f *Filters) on(i int) bool { return f.off>>uint(i)&1 == 0 }

// make takes the filters of a chain from stock, or makes them.
func (f *Filters) make(c *Chain, w *pool.Worker) {
	f.chain, f.list = c, nil
	if c == nil {
		return
	}
	for i := range f.stock {
		if f.stock[i].chain == c {
			f.list = f.stock[i].list
			return
		}
	}
	for _, factory := range c.Factories {
		f.list = append(f.list, factory.New(w).(stream.Filter))
	}
	f.stock[f.next] = made{c, f.list}
	f.next = (f.next + 1) % maxStock
}

// RequestTrailers shows them the trailers of the request.
func (f *Filters) RequestTrailers(s *stream.Stream, m *header.Map) {
	for i, x := range f.list {
		if t, ok := x.(stream.TrailerFilter); ok && f.on(i) {
			t.OnRequestTrailers(s, m)
		}
	}
}

// Response shows them the response, the last one first.
func (f *Filters) Response(s *stream.Stream, m *header.Map) {
	for i := len(f.list) - 1; i >= 0; i-- {
		if f.on(i) {
			f.list[i].OnResponse(s, m)
		}
	}
}

// ResponseTrailers shows them the trailers of the response.
func (f *Filters) ResponseTrailers(s *stream.Stream, m *header.Map) {
	for i := len(f.list) - 1; i >= 0; i-- {
		if t, ok := f.list[i].(stream.TrailerFilter); ok && f.on(i) {
			t.OnResponseTrailers(s, m)
		}
	}
}

// End tells them that the try is over.
func (f *Filters) End(s *stream.Stream) {
	for i, x := range f.list {
		if e, ok := x.(stream.Ender); ok && f.on(i) {
			e.OnEnd(s)
		}
	}
}

// A Bare is a request of the proxy's own, of which no stream is known, and its filters. A nil one has none.
type Bare struct {
	stream  stream.Stream
	filters Filters
}

// BareOf leads such a request through the filters of its cluster.
func BareOf(c *cluster.Cluster, w *pool.Worker, m *header.Map) *Bare {
	chain := Of(c.HTTPFilters, nil)
	if chain == nil {
		return nil
	}
	b := &Bare{}
	b.stream.Worker, b.stream.Rec.Request = w, m
	b.stream.Rec.Cluster, b.stream.Rec.ClusterRaw = c.StatName, c.Name
	b.filters.Request(chain, &b.stream, m)
	return b
}

// Response leads the response through it.
func (b *Bare) Response(m *header.Map) {
	if b != nil {
		b.filters.Response(&b.stream, m)
	}
}

// ResponseTrailers leads the trailers of the response through it.
func (b *Bare) ResponseTrailers(m *header.Map) {
	if b != nil {
		b.filters.ResponseTrailers(&b.stream, m)
	}
}
