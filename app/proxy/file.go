package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/build/document"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	malltls "github.com/mallamesh/malla/proxy/tls"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// grpcBackoff is how soon a connection is tried again.
var grpcBackoff = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}

// fileDrain is Envoy's --drain-time-s.
const fileDrain = 600 * time.Second

// runFile runs a proxy by an Envoy bootstrap.
func runFile(ctx context.Context, o Options) error {
	b, locate, err := readBootstrap(&o)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(context.Background())
	defer cancel()
	quit, stop := context.WithCancel(ctx)
	defer stop()
	workers, err := concurrency(o.Concurrency)
	if err != nil {
		return err
	}
	d := markedDialer(0)
	p, err := assemble(inner, o, plan{node: b.Node, boot: b, peers: b.LocalCluster, workers: workers, drain: listen.Pace{Time: cmp.Or(o.DrainTime, fileDrain), Gradual: !o.Immediate}, dialer: d})
	if err != nil {
		return err
	}
	p.quit = stop
	if err := locate(p.begin(func(context.Context) error { return nil })); err != nil {
		return err
	}
	if o.Validate {
		p.shards.Close()
		p.unread()
		fmt.Fprintf(o.Out, "configuration '%s' OK\n", b.Name)
		return nil
	}
	var servers []server
	if b.Admin.IsValid() {
		servers = append(servers, server{"admin", b.Admin.String(), p.admin().Handler(), o.AdminPath})
	}
	return p.run(quit, servers, func() { p.draining.Store(true) })
}

// readBootstrap reads the file, merges the text of the command line into it, and says
// who the node is. locate says of mistakes in what there is in which line they are.
func readBootstrap(o *Options) (b *build.Bootstrap, locate func(error) error, err error) {
	m, name, text := &bootstrapv3.Bootstrap{}, "--config-yaml", []byte(o.YAML)
	note := func(e *field.Error) { o.Log.Warn("configuration", "note", e) }
	if o.File != "" {
		if text, err = readUpTo(o.File, build.MaxConfig+1); err != nil {
			return nil, nil, err
		}
		if m, err = build.ParseBootstrap(o.File, text, note); err != nil {
			return nil, nil, err
		}
		name = o.File
	}
	if o.YAML != "" {
		more, err := build.ParseBootstrap("--config-yaml", []byte(o.YAML), note)
		if err != nil {
			return nil, nil, err
		}
		proto.Merge(m, more) // fields are replaced, lists grow, as in Envoy
	}
	if o.Node != "" || o.Cluster != "" || o.Zone != "" {
		n := &corev3.Node{Id: o.Node, Cluster: o.Cluster}
		if o.Zone != "" {
			n.Locality = &corev3.Locality{Zone: o.Zone}
		}
		proto.Merge(m, &bootstrapv3.Bootstrap{Node: n})
	}
	locate = func(err error) error {
		if errs, ok := errors.AsType[field.List](err); ok && (o.File == "" || o.YAML == "") { // of two texts neither is the whole
			document.Locate(name, text, errs)
		}
		return err
	}
	b, err = build.NewBootstrap(name, m)
	return b, locate, locate(err)
}

// readUpTo reads a file, or what comes through a pipe (-c /dev/stdin).
func readUpTo(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// begin takes in the bootstrap, whoever wrote it: a person, or we for a proxy of the
// mesh. No stream to the control plane is opened before gate lets it.
func (p *parts) begin(gate func(context.Context) error) error {
	err := p.store.Static(p.boot)
	if err == nil && p.boot.ADS != nil {
		err = p.follow(p.boot, gate)
	}
	if err != nil {
		p.shards.Close()
	}
	return err
}

// readFile reads a file of file-based xDS.
func (p *parts) readFile(name string, text []byte) (*discoveryv3.DiscoveryResponse, error) {
	return build.ParseFile(name, text, func(e *field.Error) { p.log.Warn("configuration", "note", e) })
}

// consumer is what takes in what the control plane says.
func (p *parts) consumer() xdsclient.Consumer {
	c := xdsclient.Consumer(p.store)
	if p.names != nil {
		c = withNames{c, p.names}
	}
	if p.health != nil && p.health.told {
		c = withHealth{c, p.health}
	}
	return c
}

// follow subscribes to the control plane of the bootstrap.
func (p *parts) follow(b *build.Bootstrap, gate func(context.Context) error) error {
	conn, err := grpc.NewClient("passthrough:///"+b.ADS.Cluster, append(dialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(first(b.ADS.Authority, b.ADS.Cluster)),
		grpc.WithContextDialer(p.dialCluster(b.ADS.Cluster)))...)
	if err != nil {
		return fmt.Errorf("control plane %s: %w", b.ADS.Cluster, err)
	}
	open := xdsclient.Over(conn)
	if !b.ADS.Delta {
		open = xdsclient.OverWorld(conn)
	}
	p.client = xdsclient.New(xdsclient.Options{Node: p.node, Consumer: p.consumer(), Lost: p.store.Lost, Log: p.log, Open: func(ctx context.Context) (xdsclient.Stream, error) {
		if err := gate(ctx); err != nil {
			return nil, err
		}
		for k, v := range b.ADS.Metadata {
			ctx = metadata.AppendToOutgoingContext(ctx, k, v)
		}
		return open(ctx)
	}})
	if b.LDS != nil {
		p.store.Dynamic(xdsclient.ListenerType, *b.LDS)
	}
	if b.CDS != nil {
		p.store.Dynamic(xdsclient.ClusterType, *b.CDS)
	}
	return nil
}

// dialCluster connects to a host of a static cluster, by the cluster's transport
// socket. gRPC sees the connection as plain: the secrets are the cluster's affair.
func (p *parts) dialCluster(name string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		c, h, err := p.hostOf(ctx, name)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
		defer cancel()
		conn, err := p.dialer.DialContext(ctx, "tcp", h.Addr.String())
		if err != nil {
			return nil, err
		}
		socket, ok := h.Transport.Socket.(*malltls.Client)
		if !ok {
			return conn, nil
		}
		config := socket.Config(name, h.Name, nil, nil, &malltls.Found{})
		config.NextProtos = []string{"h2"}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return secure, nil
	}
}

// hostOf picks a host of a cluster, and waits a little while there is none: its name
// may be on its way to be looked up.
func (p *parts) hostOf(ctx context.Context, name string) (*cluster.Cluster, *cluster.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		why := "is not ready"
		if c := p.store.Runtime().Cluster(name); c != nil {
			h, reason := c.Pick(&cluster.Pick{Random: uint64(time.Now().UnixNano())})
			if h != nil {
				return c, h, nil
			}
			why = fmt.Sprint(reason)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("cluster %s: %s", name, why)
		}
	}
}
