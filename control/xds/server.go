// Package xds serves Envoy's discovery protocol, version 3: ADS, delta and
// state of the world, with wildcard and by-name subscription for every type.
//
// What a client may see comes from a [Source] as immutable [Resources], one set
// per generation. The server compares versions and sends what a client lacks:
// clusters, endpoints, listeners, routes and secrets in this order. A type whose
// last response is unanswered waits, so that a slow client gets the newest state
// and not every step to it. Refusals are kept per client until the next answer.
//
// Translation, the watching of configuration and TLS are elsewhere; identity
// comes with the stream.
package xds

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/time/rate"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/pki"
)

// A Source knows what each proxy may see.
type Source interface {
	// Open is called once for each stream, with what the client says of itself and
	// who it has proved to be (nobody on a plain-text connection).
	Open(node *corev3.Node, caller pki.ID) (Proxy, error)
}

// A Proxy is one client of the source.
type Proxy interface {
	// Resources returns the newest generation. Calls are cheap and may come from any goroutine.
	Resources() Resources
}

// A Member is a [Proxy] of a workload that is there for as long as its proxy is connected.
type Member interface {
	Proxy
	// Health is told what is wrong with the application, nothing if it is well. It must not block.
	Health(trouble string)
	// Leave is told that the stream has ended. It must not block.
	Leave()
}

// Options are what a server is made of.
type Options struct {
	Source  Source
	Caller  func(context.Context) (pki.ID, error) // who opened the stream
	Metrics *Metrics
	Limits  *Limits // nil: DefaultLimits
	Log     *slog.Logger
	Now     func() time.Time
	// Refusals, if it is set, is called when a client has refused something, or does so no longer. It must not block.
	Refusals func()
}

// A Server answers ADS streams. Its methods may be called from any goroutine.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	Options

	gate gate

	mu      sync.Mutex
	clients map[*client]struct{} // guarded by mu
	opened  uint64               // guarded by mu: streams so far, for their ids
}

// New returns a server without clients.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Limits == nil {
		o.Limits = DefaultLimits()
	}
	return &Server{Options: o, gate: newGate(o.Limits), clients: map[*client]struct{}{}}
}

// Register adds the server to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// Changed tells every client to compare what it has with the source's newest
// generation: all types, or only the given ones (endpoints have this short way).
// It does not wait.
func (s *Server) Changed(types ...string) {
	if len(types) == 0 {
		types = pushOrder
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.wake(types)
	}
}

// DeltaAggregatedResources serves one delta stream until either side ends it.
func (s *Server) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return serve(s, stream.Context(), stream.Recv, &deltaWire{send: stream.Send})
}

// StreamAggregatedResources serves one state-of-the-world stream until either
// side ends it.
func (s *Server) StreamAggregatedResources(stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return serve(s, stream.Context(), stream.Recv, &sotwWire{send: stream.Send})
}

// wire is the difference between the two forms of the protocol.
type wire[Request any] interface {
	node(Request) *corev3.Node
	typeURL(Request) string
	// trouble returns what a request says is wrong.
	trouble(Request) *rpcstatus.Status
	// names calls f with every name that the request brings.
	names(r Request, f func(name string))
	// answer applies the ACK or NACK that a request may be.
	answer(w *watch, r Request, now time.Time) (nacked bool)
	// subscribe applies the subscription part, and reports whether to respond at once.
	subscribe(w *watch, r Request) bool
	// respond makes the response with what w lacks of r (always: even if that is
	// nothing) and returns how to send it, nil if there is nothing to say.
	respond(w *watch, r Resources, nonce string, always bool) (send func() error)
}

// serve runs one stream: a goroutine receives, this one decides and sends.
func serve[Request any](s *Server, ctx context.Context, recv func() (Request, error), wire wire[Request]) error {
	caller, err := s.Caller(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	guest, err := s.gate.enter(ctx, caller)
	if err != nil {
		return err
	}
	defer guest.leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests, received := receive(ctx, recv, s.Limits)
	first, err := firstOf(ctx, requests, received)
	if err != nil {
		return err
	}
	node := wire.node(first)
	if node.GetId() == "" {
		return status.Error(codes.InvalidArgument, "xds: the first request has no node id")
	}
	if n := max(len(node.GetId()), len(node.GetCluster())); n > maxName {
		return status.Errorf(codes.InvalidArgument, "xds: the node's id or cluster has %d bytes, at most %d are served", n, maxName)
	}
	size := proto.Size(node)
	if size > maxNode {
		return status.Errorf(codes.InvalidArgument, "xds: the node has %d bytes, at most %d are looked at", size, maxNode)
	}
	if err := guest.keeps(nodeCost * size); err != nil {
		return err
	}
	proxy, err := s.Source.Open(node, caller)
	if err != nil {
		return status.Errorf(codes.PermissionDenied, "xds: node %q: %v", node.GetId(), err)
	}
	if m, ok := proxy.(Member); ok {
		defer m.Leave()
	}
	c := s.add(node, guest, proxy)
	defer s.remove(c)
	if err := request(c, wire, first); err != nil {
		return err
	}
	for {
		select {
		case r := <-requests:
			err = request(c, wire, r)
		case <-c.woken:
			err = push(c, wire)
		case err := <-received:
			return ended(err)
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// receive reads requests in a goroutine of its own, until ctx ends, no faster than
// the limits allow: a client that asks in a hurry waits, and slows down by itself.
func receive[Request any](ctx context.Context, recv func() (Request, error), l *Limits) (<-chan Request, <-chan error) {
	requests := make(chan Request)
	received := make(chan error, 1)
	pace := rate.NewLimiter(l.Requests, l.RequestBurst)
	go func() {
		for {
			r, err := recv()
			if err == nil {
				err = pace.Wait(ctx)
			}
			if err != nil {
				received <- err
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return requests, received
}

// firstTimeout is how long a stream may be open without a request.
const firstTimeout = 30 * time.Second

// firstOf waits for the first request.
func firstOf[Request any](ctx context.Context, requests <-chan Request, received <-chan error) (first Request, err error) {
	t := time.NewTimer(firstTimeout)
	defer t.Stop()
	select {
	case first = <-requests:
		return first, nil
	case err := <-received:
		if err = ended(err); err == nil {
			err = status.Error(codes.Canceled, "xds: the stream ended without a request")
		}
		return first, err
	case <-t.C:
		return first, status.Errorf(codes.DeadlineExceeded, "xds: no request came within %s", firstTimeout)
	case <-ctx.Done():
		return first, ctx.Err()
	}
}

// ended turns the end of a stream into what it means: nothing, if the client left.
func ended(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}

// request handles one request of a client.
func request[Request any](c *client, wire wire[Request], r Request) error {
	typeURL := wire.typeURL(r)
	if typeURL == HealthType {
		c.health(wire.trouble(r))
		return nil
	}
	if !known(typeURL) {
		return status.Errorf(codes.InvalidArgument, "xds: type %q is not served here, want one of %s", typeURL, strings.Join(pushOrder, ", "))
	}
	if err := shortNames(wire, r); err != nil {
		return err
	}
	c.mu.Lock()
	w := c.watches[typeURL]
	if w == nil {
		w = newWatch(typeURL)
		c.watches[typeURL] = w
	}
	before := w.refusals.changes
	if wire.answer(w, r, c.server.Now()) {
		c.server.refused(c, w.refusals.newest())
	}
	always := wire.subscribe(w, r)
	changed := w.refusals.changes != before
	held := c.held[typeURL] && len(w.unanswered) == 0
	asked, most := len(w.asked), c.server.Limits.Names
	kept := c.own
	for _, w := range c.watches {
		kept += w.size
	}
	c.mu.Unlock()
	if changed && c.server.Refusals != nil {
		c.server.Refusals()
	}
	if asked > most {
		return status.Errorf(codes.ResourceExhausted, "xds: %s: the subscription has %d names, at most %d are served", Short(typeURL), asked, most)
	}
	if err := c.guest.keeps(kept); err != nil {
		return err
	}
	c.converged()
	if !always && !held {
		return nil
	}
	return respond(c, wire, w, c.proxy.Resources(), always)
}

// push sends what is new of the types that were woken.
func push[Request any](c *client, wire wire[Request]) error {
	types := c.takeWoken() // before the resources: what changes in between wakes us again
	defer c.turned()
	resources := c.proxy.Resources()
	for _, typeURL := range pushOrder {
		c.mu.Lock()
		w := c.watches[typeURL]
		wait := w != nil && len(w.unanswered) > 0
		if wait && types[typeURL] {
			c.held[typeURL] = true // the answer to the last response releases it
		}
		c.mu.Unlock()
		if w == nil || wait || !types[typeURL] {
			continue
		}
		if err := respond(c, wire, w, resources, false); err != nil {
			return err
		}
	}
	c.converged()
	return nil
}

func respond[Request any](c *client, wire wire[Request], w *watch, resources Resources, always bool) error {
	start := c.server.Now()
	// What is not translated yet is translated here, outside of the lock: who asks for a report on this client does not
	// wait for it. (Reading w needs no lock, since nobody else writes it.)
	for _, name := range w.wanted(resources) {
		resources.Resource(w.typeURL, name)
	}
	c.mu.Lock()
	c.held[w.typeURL] = false
	c.nonces++
	send := wire.respond(w, resources, c.nonce(), always)
	c.mu.Unlock()
	if send == nil {
		return nil
	}
	err := send() // outside the lock: a slow client must not hold up a report on it
	if c.server.Metrics != nil {
		c.server.Metrics.pushed(w.typeURL, c.server.Now().Sub(start))
	}
	return err
}

func (s *Server) add(node *corev3.Node, guest *guest, proxy Proxy) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	c := &client{server: s, node: node.GetId(), group: node.GetCluster(), guest: guest, own: guest.kept, caller: guest.who, proxy: proxy, stream: s.opened, since: s.Now(),
		watches: map[string]*watch{}, held: map[string]bool{}, pending: map[string]bool{}, woken: make(chan struct{}, 1)}
	s.clients[c] = struct{}{}
	if s.Metrics != nil {
		s.Metrics.connected(len(s.clients))
	}
	s.Log.Info("proxy connected", "node", c.node, "identity", c.caller.String())
	return c
}

func (s *Server) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c)
	if s.Metrics != nil {
		s.Metrics.connected(len(s.clients))
	}
	s.Log.Info("proxy left", "node", c.node)
}

// refused reports a NACK.
func (s *Server) refused(c *client, n *Nack) {
	if n == nil {
		return
	}
	if s.Metrics != nil {
		s.Metrics.refused(n.Type)
	}
	s.Log.Warn("proxy refuses configuration", "node", c.node, "type", Short(n.Type), "resources", n.Names[:min(len(n.Names), maxTold)], "of", len(n.Names), "reason", n.Detail)
}

// maxTold is how many names of one refusal go into the log: there may be as many as a client asks for.
const maxTold = 20

// Behind lists the node ids of the clients that have not answered yet to all that was
// told by Changed, sorted. Who refuses something has answered.
func (s *Server) Behind() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for c := range s.clients {
		if c.behind() {
			out = append(out, c.node)
		}
	}
	slices.Sort(out)
	return out
}

// Clients reports on every connected client, sorted by node id.
func (s *Server) Clients() []Status {
	s.mu.Lock()
	clients := make([]*client, 0, len(s.clients))
	for c := range s.clients {
		clients = append(clients, c)
	}
	s.mu.Unlock()
	out := make([]Status, len(clients))
	for i, c := range clients {
		out[i] = c.status()
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Node, b.Node) })
	return out
}
