package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/base/version"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/admin"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
	"github.com/mallamesh/malla/proxy/resolve"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tap"
	"github.com/mallamesh/malla/proxy/tap/sink"
	malltls "github.com/mallamesh/malla/proxy/tls"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// dialTimeout bounds one attempt to connect to the control plane.
const dialTimeout = 5 * time.Second

// parts are the parts of a running proxy.
type parts struct {
	o       Options
	dialer  *net.Dialer
	log     *slog.Logger
	node    *corev3.Node
	boot    *build.Bootstrap
	stats   *stats.Registry
	istio   *stats.Istio
	secrets *build.Secrets
	files   *files
	shards  *shard.Shards
	env     *build.Env
	store   *build.Store
	client  *xdsclient.Client // nil: no control plane
	places  *xdsclient.Files  // configuration in files
	guard   *overload.Manager // nil: there is nothing to watch
	ready   func() (bool, string)
	names   *names  // nil: nobody asks this proxy what names mean
	health  *health // nil: nobody asks this proxy how its application fares

	server   stats.Server
	control  stats.ControlPlane
	rest     rest
	started  time.Time
	workers  int
	draining atomic.Bool
	failing  atomic.Bool // health checks, as the administration interface wants it
	quit     context.CancelFunc
	unbound  chan error // a listener of the bootstrap could not be opened
	drain    listen.Pace
	leave    func() // our listening sockets, which are those of other replicas, too; nil: they are ours alone
}

// Run runs a proxy until ctx ends, and then drains it.
func Run(ctx context.Context, o Options) error {
	if o.static() {
		return runFile(ctx, o)
	}
	return runMesh(ctx, o)
}

// A plan is what the two ways of starting differ in.
type plan struct {
	node    *corev3.Node
	boot    *build.Bootstrap
	local   stats.Peer
	peers   string // the cluster of the proxy's own peers; empty: not known
	istio   bool   // statistics in Istio's manner
	workers int
	mark    int
	drain   listen.Pace
	dialer  *net.Dialer
	each    int // connections that a listener's clients may have; 0: nothing said
	extra   func(*listen.Config) []netip.AddrPort
	socket  func(*listen.Config, netip.AddrPort) (net.Listener, error)
	publish func(*shard.Runtime)
	attach  func(*shard.Shards) // is told of the shards before they have anything
	leave   func()              // gives sockets of socket's to others; they are closed
}

// limits are those of the bootstrap, if there is one.
func (p *plan) limits() build.Limits {
	var l build.Limits
	if p.boot != nil {
		l = p.boot.Limits
	}
	l.Each = p.each
	if l.Global == nil {
		l.Global, l.Guarded = ownConnections(), true
	}
	return l
}

// values are those of the bootstrap's runtime, if there is one.
func (p *plan) values() *build.Values {
	if p.boot == nil {
		return nil
	}
	return p.boot.Values
}

// bind says from where connections to hosts come; nil: nobody has said it.
func (p *plan) bind() *corev3.BindConfig {
	if p.boot == nil {
		return nil
	}
	return p.boot.Bind
}

// names says whom to ask for names: what the bootstrap says, if it does.
func (p *plan) names() resolve.Config {
	if p.boot == nil || p.boot.Names == nil {
		return resolve.Config{}
	}
	return *p.boot.Names
}

// assemble builds the parts that every proxy has. ctx ends what goes on by itself.
func assemble(ctx context.Context, o Options, pl plan) (*parts, error) {
	p := &parts{o: o, dialer: pl.dialer, log: o.Log, node: pl.node, boot: pl.boot, secrets: build.NewSecrets(), stats: stats.NewRegistry(pl.istio), started: time.Now(), workers: pl.workers, drain: pl.drain, leave: pl.leave, unbound: make(chan error, 1)}
	runtime.GOMAXPROCS(p.workers + 1) // so that building configuration and collecting garbage do not stall the path
	p.istio = stats.NewIstio(stats.IstioOptions{Local: pl.local, Version: version.String(), Flags: func(f uint64) string { return access.Flags(f).String() }})
	p.files = &files{shards: p.workers, every: o.FlushEvery, dropped: &p.server.AccessLogDropped}
	p.stats.Add("server.", &p.server)
	p.server.Version.Set(versionNumber(version.String()))
	p.stats.Add("control_plane.", &p.control)
	p.rest = newRest()
	var err error
	state := &overload.State{}
	p.shards, err = shard.New(shard.Options{Concurrency: p.workers, Overload: state, Failing: &p.failing, Mark: pl.mark, Pace: pl.drain, Listener: pl.socket, Churn: p.rest.disturb, Log: p.log})
	if err != nil {
		return nil, err
	}
	if pl.attach != nil {
		pl.attach(p.shards)
	}
	p.protect(state)
	events, err := p.events()
	if err != nil {
		return nil, err
	}
	resolver := func(c resolve.Config) cluster.Resolver { return resolve.New(c, pl.dialer) }
	p.env = &build.Env{
		Node: p.node, Stats: p.stats, Istio: p.istio, Secrets: p.secrets, Files: p.files, Names: resolver(pl.names()), Resolver: resolver, Dial: pl.dialer.DialContext, Log: p.log, Shards: p.workers, Context: ctx, Extra: pl.extra, Drain: pl.drain.Time, LocalCluster: pl.peers, OutlierLog: events, Limits: pl.limits(), Values: pl.values(), Taps: &tap.Registry{}, Failing: p.failing.Load, Inside: pl.boot != nil && pl.boot.Inside, Bind: pl.bind(), WholeWorld: pl.boot != nil && pl.boot.ADS != nil && !pl.boot.ADS.Delta,
		Publish: func(r *shard.Runtime) {
			if err := p.shards.Apply(r); err != nil {
				p.refused(err)
			}
			if pl.publish != nil {
				pl.publish(r)
			}
			p.rest.disturb()
		},
	}
	p.store = build.NewStore(p.env, p.wake)
	p.ready = p.store.Ready
	p.places = xdsclient.NewFiles(p.store, p.readFile, p.log)
	return p, nil
}

// events opens the file in which the bootstrap has outlier detection told; nil: none.
func (p *parts) events() (cluster.Journal, error) {
	if p.boot == nil || p.boot.OutlierLog == "" {
		return nil, nil
	}
	lines, err := p.files.Open(p.boot.OutlierLog)
	if err != nil {
		return nil, fmt.Errorf("cluster_manager.outlier_detection.event_log_path: %w", err)
	}
	return lines, nil
}

// refused tells of listeners that could not be opened. Without one of the bootstrap's own the proxy is not
// what it was started as, and ends.
func (p *parts) refused(err error) {
	p.log.Error("listeners that could not be opened", "error", err)
	all, _ := err.(interface{ Unwrap() []error })
	if all == nil || p.boot == nil {
		return
	}
	for _, e := range all.Unwrap() {
		if b, ok := errors.AsType[*shard.BindError](e); ok && p.boot.HasListener(b.Listener) {
			select {
			case p.unbound <- b:
			default: // the first is enough
			}
		}
	}
}

// wake has the client look at what is wanted.
func (p *parts) wake() {
	if p.client != nil {
		p.client.Wake()
	}
	if p.places != nil {
		p.places.Wake()
	}
}

// state is Envoy's word for what the process does.
func (p *parts) state() adminv3.ServerInfo_State {
	if p.draining.Load() || p.failing.Load() {
		return adminv3.ServerInfo_DRAINING
	}
	if ok, _ := p.ready(); !ok {
		return adminv3.ServerInfo_PRE_INITIALIZING
	}
	return adminv3.ServerInfo_LIVE
}

// admin makes the administration interface.
func (p *parts) admin() *admin.Server {
	return admin.New(admin.Options{
		Store: p.store, Secrets: p.secrets, Stats: p.stats, Metrics: []func([]byte, stats.Options, stats.Flush) []byte{p.istio.AppendPrometheus}, Bootstrap: p.boot.Proto, Node: p.node,
		Level: p.o.Level, Workers: p.workers, Version: "malla/" + version.String() + "/" + runtime.Version(), Started: p.started,
		Arguments: &adminv3.CommandLineOptions{ConfigPath: p.o.File, ConfigYaml: p.o.YAML, ServiceNode: p.o.Node, ServiceCluster: p.o.Cluster, ServiceZone: p.o.Zone,
			AdminAddressPath: p.o.AdminPath, DrainStrategy: strategy(p.drain), Concurrency: uint32(p.workers), Mode: adminv3.CommandLineOptions_Serve, DrainTime: durationpb.New(p.drain.Time)},
		Values: p.env.Values, Profile: p.boot.Profile, Unready: p.unready, State: p.state, Drain: p.drainListeners, Taps: p.env.Taps, ReadTap: func(text []byte) (string, *tap.Config, *sink.Reader, error) { return build.ReadTap(p.env, text) }, Fail: p.failing.Store, Quit: p.quit, Refresh: p.refresh,
	})
}

// strategy is Envoy's word for how a drain goes.
func strategy(p listen.Pace) adminv3.CommandLineOptions_DrainStrategy {
	if p.Gradual {
		return adminv3.CommandLineOptions_Gradual
	}
	return adminv3.CommandLineOptions_Immediate
}

// drainListeners is what the administration interface asks for: connections are told to end, and the listeners take
// no more of them, at once or when the time is up; stay has them go on.
func (p *parts) drainListeners(graceful, inboundOnly, stay bool) {
	stop := func() {
		if err := p.shards.StopListening(inboundOnly); err != nil {
			p.log.Warn("stop listening", "error", err)
		}
	}
	p.shards.Drain(inboundOnly)
	switch {
	case stay:
	case graceful:
		time.AfterFunc(p.drain.Time, stop)
	default:
		stop()
	}
}

// refresh brings the numbers up to date that nobody keeps.
func (p *parts) refresh() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	state := p.state()
	p.server.Uptime.Set(int64(time.Since(p.started) / time.Second))
	p.server.Concurrency.Set(int64(p.workers))
	p.server.MemoryAllocated.Set(int64(m.HeapAlloc - headroom)) // which is no memory
	p.server.MemoryHeapSize.Set(int64(m.HeapSys - m.HeapReleased - headroom))
	p.server.MemoryPhysicalSize.Set(int64(m.Sys - m.HeapReleased - headroom))
	p.server.Goroutines.Set(int64(runtime.NumGoroutine()))
	p.server.State.Set(int64(state))
	p.server.Live.Set(one(state == adminv3.ServerInfo_LIVE))
	p.server.DaysUntilFirstCertExpiring.Set(p.daysLeft())
	p.server.SecondsUntilFirstOCSPExpiring.Set(p.stapleLeft())
	p.server.TotalConnections.Set(int64(p.shards.Connections()))
	if p.client != nil {
		p.control.ConnectedState.Set(one(p.client.Status().Connected))
	}
}

// versionNumber is what Envoy makes of its version: the first six digits of the revision. A release has none, and is 0.
func versionNumber(v string) uint64 {
	_, revision, _ := strings.Cut(v, "-g")
	n, _ := strconv.ParseUint(revision[:min(6, len(revision))], 16, 64)
	return n
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// identities are the certificates in use.
func (p *parts) identities() (out []*malltls.Identity) {
	for _, c := range p.store.Contexts() {
		out = append(out, c.Identities...)
	}
	return out
}

// daysLeft is the time until the first certificate in use expires; without any,
// Envoy's word for never.
func (p *parts) daysLeft() int64 {
	least := int64(1<<32 - 1)
	until := func(c *x509.Certificate) {
		least = min(least, max(0, int64(time.Until(c.NotAfter)/(24*time.Hour))))
	}
	for _, id := range p.identities() {
		if c := id.Certificate(); c != nil && c.Leaf != nil {
			until(c.Leaf)
		}
	}
	for _, c := range p.store.Contexts() {
		if c.Trust != nil && c.Trust.Bundle() != nil { // Envoy counts these, too
			for _, root := range c.Trust.Bundle().Certificates {
				until(root)
			}
		}
	}
	return least
}

// stapleLeft is the time until the first OCSP response in use goes out of date, 0 if there is none.
func (p *parts) stapleLeft() int64 {
	least := int64(0)
	for _, id := range p.identities() {
		if _, at := id.Staple(); !at.IsZero() {
			if left := max(0, int64(time.Until(at)/time.Second)); least == 0 || left < least {
				least = left
			}
		}
	}
	return least
}

// run starts what has been assembled and waits until it ends. The data plane ends last.
func (p *parts) run(ctx context.Context, servers []server, leave func(), more ...func(context.Context) error) error {
	inner, cancel := context.WithCancel(context.Background())
	defer cancel()
	group, inner := errgroup.WithContext(inner)
	p.shards.Start()
	defer p.files.Close()
	defer p.shards.Close()
	defer p.store.Close()
	p.store.Start()
	p.server.InitializationTimeMS.Record(uint64(time.Since(p.started).Milliseconds()))
	for _, s := range servers {
		if err := s.start(inner, group, p.log); err != nil {
			return err
		}
	}
	more = append(more, p.places.Run, p.rest.run, p.tellUnread)
	if p.client != nil {
		more = append(more, p.client.Run)
	}
	if p.guard != nil {
		more = append(more, p.guard.Run)
	}
	for _, f := range more {
		group.Go(func() error { return f(inner) })
	}
	group.Go(func() error {
		select {
		case <-ctx.Done():
			leave()
		case <-inner.Done():
		}
		return errStopped
	})
	group.Go(func() error {
		select {
		case err := <-p.unbound:
			return err
		case <-inner.Done():
			return errStopped
		}
	})
	watchReopen(inner, p.files.Reopen, p.o.reopen)
	p.log.Info("proxy started", "version", version.String(), "node", p.node.GetId(), "workers", p.workers, "pid", os.Getpid())
	err := group.Wait()
	if errors.Is(err, errStopped) || errors.Is(err, context.Canceled) {
		p.log.Info("proxy stopped")
		return nil
	}
	return err
}

var errStopped = errors.New("stopped")

// inboundOnly says which connections are led to their end first. A sidecar's outbound ones stay usable for as long as the
// application is there; of a gateway everything comes in.
func (e *environment) inboundOnly() bool { return e.Type != "router" }

// terminate drains as Istio's agent does: inbound connections are told to end, what
// the workload itself sends goes on, and after the time for that the proxy ends.
func (p *parts) terminate(e *environment) {
	p.draining.Store(true)
	p.log.Info("draining", "for", e.Termination)
	p.shards.Drain(e.inboundOnly())
	if p.leave != nil { // what comes from now on waits there for whoever takes over, and would not outlive us here
		if err := p.shards.StopListening(e.inboundOnly()); err != nil {
			p.log.Warn("stop listening", "error", err)
		}
		p.leave()
	}
	if !e.ExitIdle {
		time.Sleep(e.Termination)
		return
	}
	time.Sleep(e.MinDrain)
	for p.shards.Connections() > 0 {
		time.Sleep(time.Second)
	}
}

// concurrency is the number of workers: the flag, else what the configuration says, else one.
func concurrency(values ...int) (int, error) {
	for _, v := range values {
		if v < 0 || v > 1024 {
			return 0, ErrUsage{fmt.Errorf("--concurrency: found %d, want 1 to 1024", v)}
		}
		if v > 0 {
			return v, nil
		}
	}
	return 1, nil
}

// unready tells what the proxy waits for.
func (p *parts) unready() []string {
	if ok, why := p.ready(); !ok {
		return []string{why}
	}
	return nil
}
