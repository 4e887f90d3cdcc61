package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A Consumer takes what comes. Its methods are called by one goroutine, the
// client's.
type Consumer interface {
	// Wants returns what is wanted of each type now. It is asked at the start,
	// after every Apply and after every [Client.Wake].
	Wants() map[string]Interest
	// Apply takes an update in and returns what it does not accept of it.
	Apply(Update) []Refusal
}

// Stream is the part of a gRPC stream that is used.
type Stream interface {
	Send(*Request) error
	Recv() (*Response, error)
}

// Options are what a client is made of.
type Options struct {
	Node     *corev3.Node
	Consumer Consumer
	// Open opens a stream that ends with ctx. [Over] makes one for a gRPC connection.
	Open func(ctx context.Context) (Stream, error)
	// Lost is told of every stream that has ended or could not be opened; nil: nobody wants to know.
	Lost func()
	Log  *slog.Logger
}

// Back-off between streams. The first attempt after a stream that worked comes
// soon: a control plane that restarts is back in a moment.
const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 15 * time.Second
)

// A Client keeps a subscription alive.
type Client struct {
	options Options
	machine *Machine
	wake    chan struct{} // holds one token

	mu      sync.Mutex
	status  Status   // guarded by mu
	report  *Request // guarded by mu: nil: there is nothing to say
	newWord bool     // guarded by mu: it has not been said on this stream
}

// Status is what is known of the connection to the control plane.
type Status struct {
	Connected bool
	Since     time.Time // of the last change of Connected
	Streams   int       // opened so far
	LastError string
	Responses map[string]int // by type
	Refused   map[string]int // responses that were answered with a NACK, by type
	Version   string         // the newest system_version_info
}

// New returns a client; Run makes it work.
func New(o Options) *Client {
	return &Client{options: o, machine: NewMachine(o.Node), wake: make(chan struct{}, 1),
		status: Status{Responses: map[string]int{}, Refused: map[string]int{}}}
}

// Over opens streams on a gRPC connection.
func Over(conn grpc.ClientConnInterface) func(context.Context) (Stream, error) {
	client := discovery.NewAggregatedDiscoveryServiceClient(conn)
	return func(ctx context.Context) (Stream, error) { return client.DeltaAggregatedResources(ctx) }
}

// Wake makes the client ask its consumer again what it wants. It may be called
// from any goroutine and does not wait.
func (c *Client) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Report says something that is no part of a subscription and that nobody answers, such as how the application fares: now,
// and again at the beginning of each stream until something else is reported. It may be called from any goroutine and does not wait.
func (c *Client) Report(r *Request) {
	c.mu.Lock()
	c.report, c.newWord = r, true
	c.mu.Unlock()
	c.Wake()
}

// tell sends what is to be reported, if it has not been sent on this stream.
func (c *Client) tell(stream Stream) error {
	c.mu.Lock()
	r := c.report
	if !c.newWord {
		r = nil
	}
	c.newWord = false
	c.mu.Unlock()
	if r == nil {
		return nil
	}
	return stream.Send(c.machine.request(proto.CloneOf(r)))
}

// Status returns a copy of the state of the connection.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	s.Responses, s.Refused = clone(s.Responses), clone(s.Refused)
	return s
}

func clone(m map[string]int) map[string]int {
	out := make(map[string]int, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// Run keeps a stream open until ctx ends, and returns ctx's error.
func (c *Client) Run(ctx context.Context) error {
	wait := minBackoff
	for {
		answered, err := c.stream(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if answered {
			wait = minBackoff
		}
		c.closed(err)
		if c.options.Lost != nil {
			c.options.Lost()
		}
		pause := wait/2 + rand.N(wait/2)
		c.options.Log.Warn("control plane lost", "error", err, "again in", pause.Round(time.Millisecond))
		wait = min(2*wait, maxBackoff)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// stream runs one stream to its end, and reports whether the server answered at all.
func (c *Client) stream(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.options.Open(ctx)
	if err != nil {
		return false, fmt.Errorf("open ADS stream: %w", err)
	}
	responses, failed := receiver(ctx, stream)
	if err := c.begin(stream); err != nil {
		return false, reason(ctx, err, responses, failed)
	}
	defer c.machine.Closed()
	for {
		select {
		case r := <-responses:
			if !answered {
				answered = true
				c.opened()
			}
			err = c.receive(stream, r)
		case <-c.wake:
			if err = c.want(stream); err == nil {
				err = c.tell(stream)
			}
		case err = <-failed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return answered, reason(ctx, err, responses, failed)
		}
	}
}

// begin sends the first requests of a stream.
func (c *Client) begin(stream Stream) error {
	_ = c.want(nil) // what was wanted while there was no stream; nothing is sent, so nothing fails
	for _, r := range c.machine.Opened() {
		if err := stream.Send(r); err != nil {
			c.machine.Closed()
			return err
		}
	}
	c.mu.Lock()
	c.newWord = c.report != nil
	c.mu.Unlock()
	if err := c.tell(stream); err != nil {
		c.machine.Closed()
		return err
	}
	return nil
}

// receiver reads a stream on a goroutine of its own, which ends with ctx.
func receiver(ctx context.Context, stream Stream) (<-chan *Response, <-chan error) {
	responses, failed := make(chan *Response), make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case responses <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return responses, failed
}

// reason returns why a stream broke: Send says io.EOF and nothing else, the
// receiver learns the rest.
func reason(ctx context.Context, err error, responses <-chan *Response, failed <-chan error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	for {
		select {
		case <-responses: // too late to answer
		case why := <-failed:
			return why
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receive hands a response to the consumer and answers it.
func (c *Client) receive(stream Stream, r *Response) error {
	u, err := c.machine.Receive(r)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	refused := c.options.Consumer.Apply(u)
	c.mu.Lock()
	c.status.Responses[u.Type]++
	if len(refused) > 0 {
		c.status.Refused[u.Type]++
	}
	if u.Version != "" {
		c.status.Version = u.Version
	}
	c.mu.Unlock()
	for _, f := range refused {
		c.options.Log.Warn("configuration refused", "type", u.Type, "resource", f.Name, "reason", f.Err)
	}
	if err := stream.Send(c.machine.Answer(r, u, refused)); err != nil {
		return err
	}
	return c.want(stream)
}

// want tells the machine what the consumer wants, and the server if there is one.
func (c *Client) want(stream Stream) error {
	wants := c.options.Consumer.Wants()
	types := slices.Clone(Types)
	for _, other := range slices.Sorted(maps.Keys(wants)) {
		if !slices.Contains(Types, other) {
			types = append(types, other) // no resource of the data plane, so it can wait
		}
	}
	for _, typeURL := range types {
		r := c.machine.Want(typeURL, wants[typeURL])
		if r == nil || stream == nil {
			continue
		}
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) opened() {
	c.mu.Lock()
	c.status.Connected, c.status.Since = true, time.Now()
	c.status.Streams++
	c.status.LastError = ""
	c.mu.Unlock()
	c.options.Log.Info("control plane connected")
}

func (c *Client) closed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Connected {
		c.status.Since = time.Now()
	}
	c.status.Connected = false
	if err != nil {
		c.status.LastError = err.Error()
	}
}
