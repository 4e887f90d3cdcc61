package peers

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	suite "google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/mallamesh/malla/test/hop"
	"github.com/mallamesh/malla/test/script/mesh"
)

// The suite ends its process at the first mistake, so it runs in one of its own.
const interopCase = "MALLA_INTEROP" // "plain" or "tls", the address, and perhaps the case

// sleeping is the case with a deadline of a millisecond. On a busy machine the server's end of
// that stream overtakes the client's clock, through Envoy and without any proxy as well, so
// the case has some attempts.
const (
	sleeping = "timeout_on_sleeping_server"
	attempts = 20
)

// interopCases are what there is of the suite without a cloud.
var interopCases = []struct {
	name string
	run  func(ctx context.Context, cc *grpc.ClientConn, tc testgrpc.TestServiceClient)
}{
	{"empty_unary", call(suite.DoEmptyUnaryCall)},
	{"large_unary", call(suite.DoLargeUnaryCall)},
	{"client_streaming", call(suite.DoClientStreaming)},
	{"server_streaming", call(suite.DoServerStreaming)},
	{"ping_pong", call(suite.DoPingPong)},
	{"empty_stream", call(suite.DoEmptyStream)},
	{sleeping, call(suite.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", call(suite.DoCancelAfterBegin)},
	{"cancel_after_first_response", call(suite.DoCancelAfterFirstResponse)},
	{"status_code_and_message", call(suite.DoStatusCodeAndMessage)},
	{"special_status_message", call(suite.DoSpecialStatusMessage)},
	{"custom_metadata", call(suite.DoCustomMetadata)},
	{"unimplemented_method", func(ctx context.Context, cc *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		suite.DoUnimplementedMethod(ctx, cc)
	}},
	{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn, _ testgrpc.TestServiceClient) {
		suite.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	}},
	// A server of grpc-go answers in the encoding that it was asked in.
	{"compressed_unary", call(suite.DoLargeUnaryCall, grpc.UseCompressor(gzip.Name))},
	{"compressed_client_streaming", call(suite.DoClientStreaming, grpc.UseCompressor(gzip.Name))},
	{"compressed_server_streaming", call(suite.DoServerStreaming, grpc.UseCompressor(gzip.Name))},
	{"compressed_ping_pong", call(suite.DoPingPong, grpc.UseCompressor(gzip.Name))},
}

type interopCall = func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)

func call(do interopCall, options ...grpc.CallOption) func(context.Context, *grpc.ClientConn, testgrpc.TestServiceClient) {
	return func(ctx context.Context, _ *grpc.ClientConn, tc testgrpc.TestServiceClient) { do(ctx, tc, options...) }
}

// interop runs the suite's cases and says which one it is about to run.
func interop(target string) int {
	words := strings.Fields(target)
	cc, err := dial(words[0] == "tls", words[1])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, c := range interopCases {
		if (c.name == sleeping) != (len(words) == 3) {
			continue
		}
		fmt.Println("case", c.name)
		c.run(ctx, cc, testgrpc.NewTestServiceClient(cc))
	}
	fmt.Println("case none: all passed")
	return 0
}

func dial(secure bool, address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if secure {
		creds = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}) // whose certificate it is, is not the matter here
	}
	return grpc.NewClient(address, append(options, grpc.WithTransportCredentials(creds))...)
}

// client is a client of a proxy.
func client(t *testing.T, address string, options ...grpc.DialOption) testgrpc.TestServiceClient {
	t.Helper()
	cc, err := dial(false, address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return testgrpc.NewTestServiceClient(cc)
}

// grpcServer serves the suite's service.
func grpcServer(t *testing.T, service testgrpc.TestServiceServer, options ...grpc.ServerOption) string {
	t.Helper()
	l := hop.Serve(t)
	s := grpc.NewServer(options...)
	testgrpc.RegisterTestServiceServer(s, service)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// grpc-go's interoperability suite passes through one hop, plain and TLS, and through
// two with mutual TLS between them.
func TestGRPCInterop(t *testing.T) {
	p := hop.PKI(t)
	server := grpcServer(t, suite.NewTestServer())
	inner := hop.Malla(t, p, hop.Hop{Name: "inner", TLS: true, Mutual: true, To: server, ToH2: true})
	x := hop.Malla(t, p,
		hop.Hop{Name: "plain", To: server, ToH2: true},
		hop.Hop{Name: "tls", TLS: true, To: server, ToH2: true},
		hop.Hop{Name: "outer", To: inner.At["inner"], ToH2: true, ToTLS: true})
	for name, target := range map[string]string{"plain": "plain " + x.At["plain"], "tls": "tls " + x.At["tls"], "mutual TLS between two": "plain " + x.At["outer"]} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, err := suiteProcess(target); err != nil {
				t.Errorf("the last case has failed: %v\n%s", err, out)
			}
			for i := 1; ; i++ {
				out, err := suiteProcess(target + " " + sleeping)
				if err == nil {
					break
				}
				if i == attempts {
					t.Errorf("%d attempts: %v\n%s", i, err, out)
					break
				}
			}
		})
	}
}

// suiteProcess runs the suite in a process of its own.
func suiteProcess(target string) ([]byte, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), interopCase+"="+target)
	return cmd.CombinedOutput()
}

// streamer is a server whose streams tell how far they have come.
type streamer struct {
	testgrpc.TestServiceServer
	sent     atomic.Int64
	received atomic.Int64
	ended    chan error
	mayRead  chan struct{}
}

const piece = 64 << 10

func (s *streamer) StreamingOutputCall(r *testgrpc.StreamingOutputCallRequest, out grpc.ServerStreamingServer[testgrpc.StreamingOutputCallResponse]) error {
	message := &testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, piece)}}
	for range r.ResponseParameters[0].Size {
		if err := out.Send(message); err != nil {
			s.ended <- context.Cause(out.Context())
			return err
		}
		s.sent.Add(piece)
	}
	return nil
}

func (s *streamer) StreamingInputCall(in grpc.ClientStreamingServer[testgrpc.StreamingInputCallRequest, testgrpc.StreamingInputCallResponse]) error {
	<-s.mayRead
	for {
		m, err := in.Recv()
		if err != nil {
			return in.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(s.received.Load() >> 10)})
		}
		s.received.Add(int64(len(m.Payload.Body)))
	}
}

func (s *streamer) EmptyCall(ctx context.Context, r *testgrpc.Empty) (*testgrpc.Empty, error) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Hour {
		<-ctx.Done()
		s.ended <- ctx.Err()
	}
	return r, nil
}

func newStreamer() *streamer {
	return &streamer{TestServiceServer: suite.NewTestServer(), ended: make(chan error, 1), mayRead: make(chan struct{})}
}

// A client that does not read stops the server, whatever is between them, and the
// proxy keeps what windows allow and no more; then all arrives.
func TestGRPCBackPressure(t *testing.T) {
	s := newStreamer()
	server := grpcServer(t, s)
	p := hop.PKI(t)
	inner := hop.Malla(t, p, hop.Hop{Name: "inner", TLS: true, Mutual: true, To: server, ToH2: true})
	x := hop.Malla(t, p, hop.Hop{Name: "outer", To: inner.At["inner"], ToH2: true, ToTLS: true})
	tc := client(t, x.At["outer"])
	const pieces = 2000 // 125 MB
	before := rss(t, x) + rss(t, inner)

	in, err := tc.StreamingOutputCall(t.Context(), &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: pieces}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Recv(); err != nil {
		t.Fatal(err)
	}
	stopped(t, "the server", &s.sent)
	if n := s.sent.Load(); n > 64<<20 { // two windows of 16 MB and what is in buffers, of Envoy 60 MB
		t.Errorf("the server has sent %d MB to a client that does not read, want two windows", n>>20)
	}
	if n := rss(t, x) + rss(t, inner) - before; n > 120<<20 {
		t.Errorf("the proxies have grown by %d MB", n>>20)
	}
	for i := 1; i < pieces; i++ {
		if _, err := in.Recv(); err != nil {
			t.Fatalf("piece %d: %v", i, err)
		}
	}

	// And upwards.
	out, err := tc.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	finished := make(chan error, 1)
	go func() {
		message := &testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, piece)}}
		for range pieces {
			if err := out.Send(message); err != nil {
				finished <- err
				return
			}
			sent.Add(piece)
		}
		r, err := out.CloseAndRecv()
		if err == nil && int64(r.AggregatedPayloadSize)<<10 != pieces*piece {
			err = fmt.Errorf("the server has got %d KB", r.AggregatedPayloadSize)
		}
		finished <- err
	}()
	stopped(t, "the client", &sent)
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("the client could send %d MB to a server that does not read, want two windows", n>>20)
	}
	close(s.mayRead)
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

// stopped waits until a counter moves no more.
func stopped(t *testing.T, what string, n *atomic.Int64) {
	t.Helper()
	last, since := int64(-1), time.Now()
	mesh.Until(t, 20*time.Second, what+" being stopped", func() error {
		if now := n.Load(); now != last {
			last, since = now, time.Now()
		}
		if last == 0 || time.Since(since) < 300*time.Millisecond {
			return fmt.Errorf("%d bytes and going on", last)
		}
		return nil
	})
}

// What the client does not want any more, by cancelling or by its deadline, ends at the server.
func TestGRPCEndsReachTheServer(t *testing.T) {
	s := newStreamer()
	p := hop.PKI(t)
	inner := hop.Malla(t, p, hop.Hop{Name: "inner", TLS: true, Mutual: true, To: grpcServer(t, s), ToH2: true})
	x := hop.Malla(t, p, hop.Hop{Name: "outer", To: inner.At["inner"], ToH2: true, ToTLS: true})
	tc := client(t, x.At["outer"])

	ctx, cancel := context.WithCancel(t.Context())
	in, err := tc.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1 << 30}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	heard(t, s.ended)

	const deadline = 2 * time.Second // long enough for the call to come to the server before it, on any machine
	start := time.Now()
	ctx, cancel = context.WithTimeout(t.Context(), deadline)
	defer cancel()
	// Whether the client's clock or the server's ends it first is chance: the one says
	// DEADLINE_EXCEEDED, the other resets the stream. Before the deadline nobody may.
	if _, err := tc.EmptyCall(ctx, &testgrpc.Empty{}); err == nil || time.Since(start) < deadline {
		t.Errorf("a call over its deadline ended after %v: %v", time.Since(start), err)
	}
	heard(t, s.ended)
}

func heard(t *testing.T, ended chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the server's stream ended without an error")
		}
	case <-time.After(10 * time.Second):
		t.Error("the server has not heard of the end")
	}
}

// No call fails when connections are told to go: by the proxy after some requests, by the
// server when they are old, or because one of two proxies is drained.
func TestGRPCDrainLosesNothing(t *testing.T) {
	p := hop.PKI(t)
	old := grpcServer(t, suite.NewTestServer(), grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 20 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second}))
	server := grpcServer(t, suite.NewTestServer())
	few := hop.Hop{Name: "few", To: server, ToH2: true, HCM: "common_http_protocol_options: {max_requests_per_connection: 30}"}
	aging := hop.Hop{Name: "aging", To: old, ToH2: true}
	aged := hop.Hop{Name: "aged", To: server, ToH2: true, HCM: "common_http_protocol_options: {max_connection_duration: 0.05s}\ndrain_timeout: 0.05s"}
	stay := hop.Hop{Name: "main", To: server, ToH2: true}
	x, y := hop.Malla(t, p, few, aging, aged, stay), hop.Malla(t, p, stay)
	for _, h := range []hop.Hop{few, aging, aged} {
		t.Run(h.Name, func(t *testing.T) {
			t.Parallel()
			calls(t, client(t, x.At[h.Name]), 1500, func() {})
		})
	}
	t.Run("drained", func(t *testing.T) {
		r := manual.NewBuilderWithScheme("two")
		r.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: y.At["main"]}, {Addr: x.At["main"]}}})
		tc := client(t, "two:///x", grpc.WithResolvers(r), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
		long, err := tc.FullDuplexCall(t.Context()) // one of these is in the middle of something
		if err != nil {
			t.Fatal(err)
		}
		other, err := tc.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ask := &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1000}}}
		talk := func() {
			for _, s := range []testgrpc.TestService_FullDuplexCallClient{long, other} {
				if err := s.Send(ask); err != nil {
					t.Errorf("a stream in a drain: %v", err)
				} else if _, err := s.Recv(); err != nil {
					t.Errorf("a stream in a drain: %v", err)
				}
			}
		}
		talk()
		calls(t, tc, 3000, func() {
			resp, err := http.Post("http://"+y.Admin+"/drain_listeners?graceful", "", nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
		talk()
		if n := y.Stat(t, "http.main.downstream_rq_total"); n < 10 {
			t.Errorf("the drained proxy has served %d calls", n)
		}
	})
}

// calls makes calls, some at once, and does something in the middle.
func calls(t *testing.T, tc testgrpc.TestServiceClient, n int, middle func()) {
	t.Helper()
	var wg sync.WaitGroup
	var next, failed atomic.Int64
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if i == n/2 {
					middle()
				}
				if _, err := tc.EmptyCall(t.Context(), &testgrpc.Empty{}); err != nil && failed.Add(1) < 5 {
					t.Errorf("call %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d calls have failed", n)
	}
}

// rss is a proxy's resident memory.
func rss(t testing.TB, x *hop.Proxy) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", x.Cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc")
	}
	for l := range strings.Lines(string(text)) {
		var kb int64
		if _, err := fmt.Sscanf(l, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("VmRSS is missing")
	return 0
}
