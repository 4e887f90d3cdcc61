// Package relay passes discovery streams of a proxy beside us on to the control plane.
//
// The proxy speaks plain gRPC over a Unix socket; the relay speaks for it over a connection that
// shows the workload's certificate. It does not look into messages, so that it needs to know
// nothing of them: requests, responses and refusals arrive as they were sent, in both forms of the protocol. Only
// streams of the aggregated discovery service pass. When either side ends a stream, the other learns how.
//
// The agent beside the proxy may add [Words] of its own to what the proxy says.
package relay

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// service is the only one whose streams pass.
const service = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"

// Options returns what makes a gRPC server pass the streams that it knows nothing of on to a connection, and add
// the words, which may be nil.
func Options(to *grpc.ClientConn, words *Words) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return pass(to, words, s) }),
	}
}

func pass(to *grpc.ClientConn, words *Words, down grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(down)
	if !strings.HasPrefix(method, service) {
		return status.Errorf(codes.Unimplemented, "method %q is not passed on, want one of %s", method, service)
	}
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	up, err := to.NewStream(ctx, &grpc.StreamDesc{StreamName: method, ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodecV2(codec{}))
	if err != nil {
		return err
	}
	out := &upstream{stream: up, begun: make(chan struct{})}
	go func() { // it ends with the stream at the latest
		if copyAll(out.proxy, down.RecvMsg) == nil {
			out.close() // the other side says how that ends
			return
		}
		cancel()
	}()
	if words != nil {
		go words.speak(ctx, out, strings.HasSuffix(method, "/DeltaAggregatedResources"))
	}
	return copyAll(down.SendMsg, up.RecvMsg)
}

// copyAll passes messages on until there are no more, or one way or the other fails.
func copyAll(send, recv func(any) error) error {
	for {
		var f frame
		if err := recv(&f); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := send(&f); err != nil {
			return err
		}
	}
}

// A frame is a message as it came.
type frame struct{ data mem.BufferSlice }

// codec leaves messages as they are.
type codec struct{}

func (codec) Name() string { return "proto" }

// Marshal hands over the frame's reference: a frame is sent once.
func (codec) Marshal(v any) (mem.BufferSlice, error) { return v.(*frame).data, nil }

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	data.Ref() // gRPC takes its own back when we return
	v.(*frame).data = data
	return nil
}
