package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/cluster"
	malltls "github.com/mallamesh/malla/proxy/tls"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// grpcBackoff is how soon a connection is tried again.
var grpcBackoff = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second}

// fileDrain is Envoy's --drain-time-s.
const fileDrain = 600 * time.Second

// runFile runs a proxy by an Envoy bootstrap.
func runFile(ctx context.Context, o Options) error {
	text, err := os.ReadFile(o.File)
	if err != nil {
		return err
	}
	b, err := build.ParseBootstrap(o.File, text)
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
	p, err := assemble(inner, o, plan{node: b.Node, boot: b.Proto, peers: b.LocalCluster, workers: workers, drain: cmp.Or(o.DrainTime, fileDrain), dialer: d})
	if err != nil {
		return err
	}
	p.quit = stop
	if err := p.store.Static(b); err != nil {
		p.shards.Close()
		return fmt.Errorf("%s: %w", o.File, err)
	}
	if o.Validate {
		p.shards.Close()
		fmt.Fprintf(o.Out, "configuration '%s' OK\n", o.File)
		return nil
	}
	if b.ADS != nil {
		if err := p.follow(b); err != nil {
			p.shards.Close()
			return err
		}
	}
	var servers []server
	if b.Admin.IsValid() {
		servers = append(servers, server{"admin", b.Admin.String(), p.admin().Handler()})
	}
	return p.run(quit, servers, func() { p.draining.Store(true) })
}

// follow subscribes to the control plane of the bootstrap.
func (p *parts) follow(b *build.Bootstrap) error {
	conn, err := grpc.NewClient("passthrough:///"+b.ADS.Cluster, append(dialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(first(b.ADS.Authority, b.ADS.Cluster)),
		grpc.WithContextDialer(p.dialCluster(b.ADS.Cluster)))...)
	if err != nil {
		return fmt.Errorf("control plane %s: %w", b.ADS.Cluster, err)
	}
	open := xdsclient.Over(conn)
	if !b.ADS.Delta {
		open = xdsclient.OverWorld(conn)
	}
	p.client = xdsclient.New(xdsclient.Options{Node: p.node, Consumer: p.store, Log: p.log, Open: func(ctx context.Context) (xdsclient.Stream, error) {
		for k, v := range b.ADS.Metadata {
			ctx = metadata.AppendToOutgoingContext(ctx, k, v)
		}
		return open(ctx)
	}})
	if b.LDS {
		p.store.Dynamic(xdsclient.ListenerType)
	}
	if b.CDS {
		p.store.Dynamic(xdsclient.ClusterType)
	}
	return nil
}

// dialCluster connects to a host of a static cluster, by the cluster's transport
// socket. gRPC sees the connection as plain: the secrets are the cluster's affair.
func (p *parts) dialCluster(name string) func(context.Context, string) (net.Conn, error) {
	d := markedDialer(0)
	return func(ctx context.Context, _ string) (net.Conn, error) {
		c := p.store.Runtime().Cluster(name)
		if c == nil {
			return nil, fmt.Errorf("cluster %s is not ready", name)
		}
		h, why := c.Pick(&cluster.Pick{Random: uint64(time.Now().UnixNano())})
		if h == nil {
			return nil, fmt.Errorf("cluster %s: %s", name, why)
		}
		ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
		defer cancel()
		conn, err := d.DialContext(ctx, "tcp", h.Addr.String())
		if err != nil {
			return nil, err
		}
		socket, ok := h.Transport.Socket.(*malltls.Client)
		if !ok {
			return conn, nil
		}
		config := socket.Config(name, func(*malltls.Peer) {})
		config.NextProtos = []string{"h2"}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return secure, nil
	}
}
