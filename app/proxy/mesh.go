package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/node/agent"
	"github.com/mallamesh/malla/proxy/admin"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// Names of the secrets that the node's agent supplies, in Istio's contexts.
const (
	identitySecret = "default"
	rootSecret     = "ROOTCA"

	systemRootSecret = "file-root:system" // for a real Envoy
)

// meshFlush is when a line of the access log is to be seen: who sends a request looks for it at once.
// A sink without lines sleeps, so that it costs ten writes a second at the most.
const meshFlush = 100 * time.Millisecond

// runMesh runs a sidecar or a gateway.
func runMesh(ctx context.Context, o Options) error {
	if o.FlushEvery == 0 {
		o.FlushEvery = meshFlush
	}
	e, err := readEnvironment(o)
	if err != nil {
		return err
	}
	pl, err := e.plan(o)
	if err != nil {
		return err
	}
	inner, cancel := context.WithCancel(context.Background())
	defer cancel()
	quit, stop := context.WithCancel(ctx)
	defer stop()
	p, err := assemble(inner, o, *pl)
	if err != nil {
		return err
	}
	p.quit = stop
	if p.names, err = newNames(e, pl.dialer, p.log); err != nil {
		return err
	}
	p.secrets.Local(identitySecret, rootSecret)
	roots, ag := p.identity(e, pl.dialer)
	p.ready = func() (bool, string) {
		if ag.Certificate() == nil {
			return false, "the certificate has not been issued yet"
		}
		if p.names != nil && !p.names.ready.Load() {
			return false, "what names mean has not come yet"
		}
		return p.store.Ready()
	}
	p.health = e.newHealth(pl.mark != 0, p.serving, func(r *xdsclient.Request) { p.client.Report(r) })
	if err := p.begin(func(ctx context.Context) error { return wait(ctx, ag) }); err != nil { // without a certificate we would be nobody
		return err
	}
	watch := func(ctx context.Context) error { roots.Watch(ctx); return nil }
	more := []func(context.Context) error{ag.Run, watch}
	if p.names != nil {
		more = append(more, p.names.serve)
	}
	if p.health != nil {
		more = append(more, p.health.run)
	}
	return p.run(quit, p.meshServers(e), func() { p.terminate(e) }, more...)
}

// plan says how a proxy of a mesh differs from others.
func (e *environment) plan(o Options) (*plan, error) {
	node, err := e.node()
	if err != nil {
		return nil, err
	}
	pl := &plan{node: node, local: e.peer(), istio: true, drain: listen.Pace{Time: e.DrainTime}}
	if pl.boot, err = build.NewBootstrap("bootstrap", e.bootstrap(node)); err != nil {
		return nil, err
	}
	pl.peers = pl.boot.LocalCluster
	if e.Type == "router" { // whose listeners all accept connections
		pl.each = e.ListenerLimit
	}
	if pl.workers, err = concurrency(o.Concurrency, e.Concurrency); err != nil {
		return nil, err
	}
	if e.Type == "sidecar" && mayMark() {
		pl.mark = captureMark
	}
	pl.dialer = markedDialer(pl.mark)
	if b := broker.FromEnv(o.Getenv); b != nil {
		h := &hostPorts{broker: b, owner: e.Namespace + "/" + first(e.Metadata["WORKLOAD_NAME"], e.Pod), called: servicePorts(o.Getenv(EnvPorts)), log: o.Log}
		h.ask()
		pl.extra, pl.socket, pl.publish = h.extra, h.listener, func(r *shard.Runtime) { h.keep(r) }
		pl.attach, pl.leave = func(s *shard.Shards) { h.rebind = s.Rebind }, h.leave
	}
	return pl, nil
}

// identity makes the agent, whose certificates go to the data plane as they come.
func (p *parts) identity(e *environment, d *net.Dialer) (*agent.Roots, *agent.Agent) {
	roots := agent.NewRoots(e.RootPath, func(certs []*x509.Certificate) {
		if err := p.secrets.Trust(rootSecret).Set(certs); err != nil {
			p.log.Warn("roots", "error", err)
		}
	}).Besides(e.anchorsPath(), e.Anchors)
	ca := &agent.CA{Address: e.CA, TokenPath: e.TokenPath, ClusterID: e.ClusterID, Roots: roots, Dial: dial(d)}
	ag := agent.New(agent.Options{ID: e.id(), Signer: ca, Roots: roots, TTL: e.TTL, Log: p.log, Issued: func(c *tls.Certificate) {
		if err := p.secrets.Identity(identitySecret).Set(c); err != nil {
			p.log.Warn("certificate", "error", err)
		}
	}})
	return roots, ag
}

func dial(d *net.Dialer) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}

// wait waits for the first certificate.
func wait(ctx context.Context, ag *agent.Agent) error {
	for ag.Certificate() == nil {
		t := time.NewTimer(10 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return nil
}

// dialOptions are those of a long-lived connection for configuration.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(256 << 20)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: grpcBackoff, MinConnectTimeout: dialTimeout}),
		grpc.WithReadBufferSize(8 << 10), grpc.WithWriteBufferSize(4 << 10),
	}
}

// serving reports whether the workload may get requests, as Istio's agent does on 15021; /ready of 15000 is Envoy's own.
func (p *parts) serving() (bool, string) {
	if ok, why := p.ready(); !ok {
		return false, why
	}
	return p.store.Taken()
}

// meshServers are the ports of a proxy in a mesh.
func (p *parts) meshServers(e *environment) []server {
	adm := p.admin()
	status := &admin.Status{
		Ready: p.serving, Application: application(e.Metrics, e.StatusPort),
		Proxy: func(w io.Writer) error {
			p.refresh()
			if p.names != nil {
				if err := p.names.writeMetrics(w); err != nil {
					return err
				}
			}
			var o stats.Options
			if e.Shown != nil {
				o.Filter = e.Shown
			}
			return p.stats.WritePrometheus(w, o, func(b []byte, flush stats.Flush) []byte { return p.istio.AppendPrometheus(b, stats.Options{}, flush) })
		},
		Quit: p.quit, Drain: func() { p.drainListeners(true, e.inboundOnly(), true) },
		Client: &http.Client{Transport: &http.Transport{DialContext: markedDialer(0).DialContext, DisableKeepAlives: true}},
	}
	return []server{
		{name: "admin", address: net.JoinHostPort("127.0.0.1", strconv.Itoa(e.AdminPort)), handler: adm.Handler()},
		{name: "metrics", address: ":15090", handler: adm.Prometheus(e.Shown)},
		{name: "status", address: ":" + strconv.Itoa(e.StatusPort), handler: status.Handler()},
		{name: "health", address: ":15021", handler: status.Health()},
	}
}

// application says where the application's metrics are; our own address, which
// injectors put into annotations for Prometheus, is not it.
func application(annotations map[string]string, own int) admin.Application {
	a := admin.ParseApplication(annotations)
	if a.Port == strconv.Itoa(own) {
		a.Scrape = false
	}
	return a
}
