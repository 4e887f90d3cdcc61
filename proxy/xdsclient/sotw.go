package xdsclient

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A World speaks the state-of-the-world form to a server for a [Machine], which
// thinks in increments: it turns requests of one form into the other's, and answers
// back. It is the state of one stream, reads no clock and sends nothing.
//
// Every request repeats all names and the version that was accepted last. An answer
// of listeners, clusters or scopes is all there is, so what is missing has gone; answers of
// the other types say nothing about what they leave out.
type World struct {
	types map[string]*world
}

type world struct {
	names    map[string]bool
	version  string            // accepted last
	nonce    string            // of the answer that was judged last
	unjudged map[string]string // versions by nonce
	known    []string          // of full types: what is there by the last answer, this stream's or an older one's
}

// Request turns a request around.
func (w *World) Request(r *Request) *discovery.DiscoveryRequest {
	t := w.get(r.GetTypeUrl())
	for _, n := range r.GetResourceNamesSubscribe() {
		t.names[n] = true
	}
	for _, n := range r.GetResourceNamesUnsubscribe() {
		delete(t.names, n)
	}
	if known := r.GetInitialResourceVersions(); known != nil && full(r.GetTypeUrl()) {
		t.known = slices.Sorted(maps.Keys(known))
	}
	if nonce := r.GetResponseNonce(); nonce != "" {
		if r.GetErrorDetail() == nil {
			t.version = t.unjudged[nonce]
		}
		delete(t.unjudged, nonce)
		t.nonce = nonce
	}
	return &discovery.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), Node: r.GetNode(), VersionInfo: t.version, ResponseNonce: t.nonce,
		ResourceNames: slices.Sorted(maps.Keys(t.names)), ErrorDetail: r.GetErrorDetail()}
}

// Response turns an answer around.
func (w *World) Response(r *discovery.DiscoveryResponse) (*Response, error) {
	t := w.get(r.GetTypeUrl())
	t.unjudged[r.GetNonce()] = r.GetVersionInfo()
	out := &Response{TypeUrl: r.GetTypeUrl(), Nonce: r.GetNonce(), SystemVersionInfo: r.GetVersionInfo()}
	var names []string
	for i, body := range r.GetResources() {
		name, err := NameOf(body)
		if err != nil {
			return nil, fmt.Errorf("resources[%d] of %s: %w", i, r.GetTypeUrl(), err)
		}
		names = append(names, name)
		out.Resources = append(out.Resources, &discovery.Resource{Name: name, Version: r.GetVersionInfo(), Resource: body})
	}
	if full(r.GetTypeUrl()) {
		for _, name := range t.known {
			if !slices.Contains(names, name) {
				out.RemovedResources = append(out.RemovedResources, name)
			}
		}
		t.known = names
	}
	return out, nil
}

func (w *World) get(typeURL string) *world {
	if w.types == nil {
		w.types = map[string]*world{}
	}
	if w.types[typeURL] == nil {
		w.types[typeURL] = &world{names: map[string]bool{}, unjudged: map[string]string{}}
	}
	return w.types[typeURL]
}

// full reports whether an answer of a type is all there is.
func full(typeURL string) bool {
	return typeURL == ListenerType || typeURL == ClusterType || typeURL == ScopedRouteType
}

// NameOf returns the name of a packed resource.
func NameOf(body *anypb.Any) (string, error) {
	var m interface {
		proto.Message
		GetName() string
	}
	switch body.GetTypeUrl() {
	case ListenerType:
		m = &listenerv3.Listener{}
	case ClusterType:
		m = &clusterv3.Cluster{}
	case RouteType:
		m = &routev3.RouteConfiguration{}
	case ExtensionType:
		m = &corev3.TypedExtensionConfig{}
	case ScopedRouteType:
		m = &routev3.ScopedRouteConfiguration{}
	case SecretType:
		m = &tlsv3.Secret{}
	case EndpointType:
		load := &endpointv3.ClusterLoadAssignment{}
		err := body.UnmarshalTo(load)
		return load.GetClusterName(), err
	default:
		return "", fmt.Errorf("type %q is not known", body.GetTypeUrl())
	}
	err := body.UnmarshalTo(m)
	return m.GetName(), err
}

// OverWorld opens streams of the state-of-the-world form on a gRPC connection.
func OverWorld(conn grpc.ClientConnInterface) func(context.Context) (Stream, error) {
	client := discovery.NewAggregatedDiscoveryServiceClient(conn)
	return func(ctx context.Context) (Stream, error) {
		s, err := client.StreamAggregatedResources(ctx)
		if err != nil {
			return nil, err
		}
		return &worldStream{s: s}, nil
	}
}

// worldStream is a stream that looks incremental.
type worldStream struct {
	s  discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	mu sync.Mutex // guards w: one goroutine sends, another receives
	w  World
}

func (s *worldStream) Send(r *Request) error {
	s.mu.Lock()
	out := s.w.Request(r)
	s.mu.Unlock()
	return s.s.Send(out)
}

func (s *worldStream) Recv() (*Response, error) {
	r, err := s.s.Recv()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Response(r)
}
