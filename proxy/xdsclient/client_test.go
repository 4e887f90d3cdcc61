package xdsclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// consumer wants clusters, and the endpoints of those that it has.
type consumer struct {
	mu       sync.Mutex
	clusters []string
	updates  []string
	refuse   string
	applied  chan string
}

func (c *consumer) Wants() map[string]Interest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return map[string]Interest{ClusterType: {Wildcard: true}, EndpointType: {Names: c.clusters}}
}

func (c *consumer) Apply(u Update) []Refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	var refused []Refusal
	for _, r := range u.Resources {
		if r.Name == c.refuse {
			refused = append(refused, Refusal{r.Name, errors.New("no")})
		} else if u.Type == ClusterType {
			c.clusters = append(c.clusters, r.Name)
		}
	}
	c.updates = append(c.updates, names(u))
	if c.applied != nil {
		c.applied <- names(u)
	}
	return refused
}

// fake is a stream in memory. The test reads what was sent and says what comes.
type fake struct {
	ctx  context.Context
	sent chan *Request
	recv chan *Response
	fail chan error
}

func (f *fake) Send(r *Request) error {
	select {
	case f.sent <- r:
		return nil
	case <-f.ctx.Done():
		return io.EOF
	}
}

func (f *fake) Recv() (*Response, error) {
	select {
	case r := <-f.recv:
		return r, nil
	case err := <-f.fail:
		return nil, err
	case <-f.ctx.Done():
		return nil, f.ctx.Err()
	}
}

// Streams are opened again after they break: soon at first, then less and less
// often, never in step, and at once slow again only if the server never answered.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var opened []time.Time
		c := New(Options{Node: &corev3.Node{Id: "me"}, Consumer: &consumer{}, Log: slog.New(slog.DiscardHandler), Open: func(context.Context) (Stream, error) {
			opened = append(opened, time.Now())
			return nil, errors.New("connection refused")
		}})
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if n := len(opened); n < 40 || n > 100 {
			t.Errorf("%d attempts in ten minutes, want about one in 11 s", n)
		}
		if gap := opened[1].Sub(opened[0]); gap < minBackoff/2 || gap > minBackoff {
			t.Errorf("second attempt after %v, want %v to %v", gap, minBackoff/2, minBackoff)
		}
		last := len(opened) - 1
		if gap := opened[last].Sub(opened[last-1]); gap < maxBackoff/2 || gap > maxBackoff {
			t.Errorf("later attempts after %v, want %v to %v", gap, maxBackoff/2, maxBackoff)
		}
		if s := c.Status(); s.Connected || !strings.Contains(s.LastError, "refused") {
			t.Errorf("status %+v", s)
		}
	})
}

// What a response makes wanted is asked for on the same stream; a new stream tells
// what is there, so that nothing is sent twice.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := make(chan *fake, 1)
		c := New(Options{Node: &corev3.Node{Id: "me"}, Consumer: &consumer{refuse: "b"}, Log: slog.New(slog.DiscardHandler), Open: func(ctx context.Context) (Stream, error) {
			f := &fake{ctx: ctx, sent: make(chan *Request, 16), recv: make(chan *Response), fail: make(chan error)}
			streams <- f
			return f, nil
		}})
		go func() { _ = c.Run(t.Context()) }()
		next := func(f *fake, want string) {
			t.Helper()
			if got := show(<-f.sent); got != want {
				t.Errorf("sent %s\nwant %s", got, want)
			}
		}
		f := <-streams
		next(f, "Cluster node=me")
		f.recv <- respond(ClusterType, "1", "a@1", "b@1")
		next(f, "Cluster answers=1 refused(3): b: no")
		next(f, "ClusterLoadAssignment +a")
		f.recv <- respond(EndpointType, "2", "a@7")
		next(f, "ClusterLoadAssignment answers=2")
		f.fail <- errors.New("gone")
		f = <-streams
		next(f, "Cluster node=me have:a@1")
		next(f, "ClusterLoadAssignment +a have:a@7")
		f.recv <- respond(ClusterType, "3")
		next(f, "Cluster answers=3")
		synctest.Wait()
		if s := c.Status(); !s.Connected || s.Streams != 2 || s.Refused[ClusterType] != 1 || s.Responses[ClusterType] != 2 {
			t.Errorf("status %+v", s)
		}
	})
}

// server answers the first cluster request with one cluster.
type server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	acked chan *Request
}

func (s *server) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	if err := stream.Send(respond(ClusterType, "n", "a@1")); err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		s.acked <- r
	}
}

// The client speaks to a gRPC server.
func TestOverGRPC(t *testing.T) {
	l := bufconn.Listen(1 << 16)
	g := grpc.NewServer()
	s := &server{acked: make(chan *Request, 4)}
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	defer g.Stop()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	con := &consumer{applied: make(chan string, 4)}
	c := New(Options{Node: &corev3.Node{Id: "me"}, Consumer: con, Log: slog.New(slog.DiscardHandler), Open: Over(conn)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if got := <-con.applied; got != "a@1" {
		t.Errorf("applied %q", got)
	}
	if got := show(<-s.acked); got != "Cluster answers=n" {
		t.Errorf("answered %s", got)
	}
	if got := show(<-s.acked); got != "ClusterLoadAssignment +a" {
		t.Errorf("asked %s", got)
	}
	cancel()
	<-done
}
