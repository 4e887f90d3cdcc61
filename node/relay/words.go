package relay

import (
	"context"
	"sync"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// Words are what an agent says on its proxy's streams beside what the proxy says. There is one word, the newest: it is
// said when it comes, and on every stream after the proxy's first message, which says who it is.
type Words struct {
	mu      sync.Mutex
	newest  *word         // guarded by mu; nil: nothing
	changed chan struct{} // guarded by mu; closed when there is a newer one; nil: nobody waits
}

type word struct {
	typeURL string
	detail  *status.Status
}

// Say makes a request of that type, with an error or nil, the newest word.
func (w *Words) Say(typeURL string, detail *status.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.newest = &word{typeURL, detail}
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *Words) next() (*word, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.newest, w.changed
}

// speak says the words on one stream until ctx ends.
func (w *Words) speak(ctx context.Context, out *upstream, delta bool) {
	select {
	case <-out.begun:
	case <-ctx.Done():
		return
	}
	for {
		x, changed := w.next()
		if x != nil && out.add(x.encode(delta)) != nil {
			return // the stream has ended, and its proxy learns why
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (x *word) encode(delta bool) []byte {
	var m proto.Message = &discovery.DiscoveryRequest{TypeUrl: x.typeURL, ErrorDetail: x.detail}
	if delta {
		m = &discovery.DeltaDiscoveryRequest{TypeUrl: x.typeURL, ErrorDetail: x.detail}
	}
	data, err := proto.Marshal(m)
	if err != nil {
		panic("relay: a request that does not marshal: " + err.Error()) // its texts are UTF-8
	}
	return data
}

// An upstream is the way to the control plane, on which the proxy and its agent speak in turns.
type upstream struct {
	stream grpc.ClientStream
	begun  chan struct{} // closed when the proxy has said something

	mu    sync.Mutex // one speaks at a time
	first bool       // guarded by mu: begun is closed
	ended bool       // guarded by mu
}

// proxy passes on a message of the proxy's.
func (u *upstream) proxy(m any) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := u.stream.SendMsg(m)
	if err == nil && !u.first {
		u.first = true
		close(u.begun)
	}
	return err
}

// add sends a message of the agent's.
func (u *upstream) add(data []byte) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return context.Canceled
	}
	return u.stream.SendMsg(&frame{data: mem.BufferSlice{mem.SliceBuffer(data)}})
}

func (u *upstream) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	_ = u.stream.CloseSend()
}
