package app

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mallamesh/malla/base/version"
	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/compile/gatewayapi"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/config/source/kube"
	"github.com/mallamesh/malla/control/ca"
	"github.com/mallamesh/malla/control/gateways"
	"github.com/mallamesh/malla/control/machines"
	"github.com/mallamesh/malla/control/status"
	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/registry"
	"github.com/mallamesh/malla/translate"
)

// ControlOptions are the control plane's flags.
type ControlOptions struct {
	Kubeconfig string // "" inside a pod
	Namespace  string
	Listen     string // host of the listeners; "" is every address
	// AccessLogFile is MeshConfig's accessLogFile where it is not written; "" as in
	// Istio is no access log.
	AccessLogFile string
	Shared        string // the ConfigMap with settings below those of the mesh's own
	AsIstio       bool   // there is no istiod: its GatewayClasses are ours
	Log           *slog.Logger
}

// controlCommand runs `malla control run`.
func controlCommand(ctx context.Context, args []string, stderr io.Writer) error {
	o := ControlOptions{}
	f := flag.NewFlagSet("malla control run", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "read this kubeconfig instead of the pod's service account")
	f.StringVar(&o.Namespace, "namespace", envOr("POD_NAMESPACE", "istio-system"), "the control plane's namespace")
	f.StringVar(&o.Listen, "listen", "", "address to listen on, all if empty")
	f.StringVar(&o.AccessLogFile, "access-log-file", "", "accessLogFile of a MeshConfig that does not say it")
	f.StringVar(&o.Shared, "shared-mesh-config", os.Getenv(mesh.SharedEnv), "a ConfigMap of the namespace with settings of the mesh below its own")
	f.BoolVar(&o.AsIstio, "as-istio", false, "serve GatewayClasses of istio.io/gateway-controller: where no istiod runs")
	level := f.String("log-level", "info", "debug, info, warn or error")
	if err := f.Parse(args); err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: levelOf(*level)}))
	return Control(ctx, o)
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func levelOf(s string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// Control runs the control plane until ctx ends: it reads an API server, compiles
// what it finds, and serves proxies their configuration and certificates.
func Control(ctx context.Context, o ControlOptions) error {
	cfg, err := clientConfig(o.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	source, err := kube.New(cfg, kube.Options{Namespace: o.Namespace, Shared: o.Shared, Log: o.Log})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return quiet(ctx, source.Run(ctx)) })
	select {
	case <-source.Synced():
	case <-ctx.Done():
		return g.Wait()
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	anything, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	c := &controlPlane{o: o, source: source, problems: problems{log: o.Log}, settled: time.NewTimer(0), refused: make(chan struct{}, 1), sizes: newSizes(metrics),
		status: status.New(status.Options{Objects: source, Client: anything, Events: client.CoreV1(), Log: o.Log,
			Controllers: gatewayapi.Controllers(o.AsIstio)})}
	c.lastGood = newLastGood(client.CoreV1().ConfigMaps(o.Namespace), o.Log)
	c.gateways = gateways.New(gateways.Options{Client: client, Objects: anything, Root: o.Namespace, AsIstio: o.AsIstio, Log: o.Log})
	c.tracer = newTracer(c.refusalsChanged)
	g.Go(func() error { c.tracer.run(ctx); return nil })
	c.names = newGatewayNames(net.DefaultResolver.LookupNetIP, o.Log)
	c.build(time.Now(), false)
	c.hasTold() // who connects from now on begins with it
	authority, err := loadCA(ctx, client, o, c.trustDomain())
	if err != nil {
		return err
	}
	c.authority = ca.NewAuthority(authority)
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	members := machines.New(machines.Options{Client: anything, Snapshot: source.Snapshot, Name: envOr("POD_NAME", host), Log: o.Log})
	c.resources.Registry = members
	c.server = xds.New(xds.Options{Source: c.resources, Caller: xdsCaller, Log: o.Log, Metrics: xds.NewMetrics(metrics, version.String()), Refusals: c.refusalsChanged})
	c.publisher = ca.NewPublisher(client, c.authority, o.Log)
	c.publishRoots()
	g.Go(func() error { c.publisher.Run(ctx); return nil })
	g.Go(func() error {
		c.authority.Watch(ctx, client, o.Namespace, o.Log, c.publisher.Changed)
		return nil
	})
	g.Go(func() error { c.follow(ctx); return nil })
	g.Go(func() error { c.status.Run(ctx); return nil })
	g.Go(func() error { members.Run(ctx); return nil })
	g.Go(func() error { c.lastGood.run(ctx); return nil })
	g.Go(func() error { c.names.run(ctx); return nil })
	g.Go(func() error { return quiet(ctx, c.gateways.Run(ctx)) })
	g.Go(func() error { return c.serveGRPC(ctx, client) })
	g.Go(func() error { return c.serveHTTP(ctx, client, metrics) })
	o.Log.Info("control plane is ready", "version", version.String(), "namespace", o.Namespace)
	return quiet(ctx, g.Wait())
}

// quiet forgets an error that is only the end that was asked for.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

func clientConfig(kubeconfig string) (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
	} else {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	cfg.UserAgent = "malla-control/" + version.String()
	cfg.QPS, cfg.Burst = 100, 200
	return cfg, nil
}

// loadCA waits for the API server as long as it takes. For somebody who mends a
// Secret it does not wait: the end of this process, with the reason, is easier seen.
func loadCA(ctx context.Context, client kubernetes.Interface, o ControlOptions, trustDomain string) (*pki.CA, error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		authority, err := ca.Load(ctx, client, o.Namespace, trustDomain, time.Now())
		var bad *ca.SecretError
		if err == nil || errors.As(err, &bad) {
			return authority, err
		}
		o.Log.Warn("no certificate authority yet", "reason", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// controlPlane is the running whole. Only follow's goroutine builds.
type controlPlane struct {
	o         ControlOptions
	source    *kube.Source
	authority *ca.Authority
	publisher *ca.Publisher
	server    *xds.Server
	resources *xds.Mesh
	registry  registry.Builder
	found     []problem         // in the newest mesh
	good      *model.MeshConfig // the last settings without a mistake, nil before the first
	lastGood  *lastGood         // where they are kept; nil: nowhere
	problems  problems
	status    *status.Writer
	standards standards
	gateways  *gateways.Controller
	names     *gatewayNames
	settled   *time.Timer   // fires when a problem may be due
	refused   chan struct{} // holds one token: proxies refuse something, or something less
	tracer    *tracer
	sizes     *sizes

	mu   sync.Mutex
	snap *config.Snapshot // guarded by mu: read by the debug pages
	read *config.Snapshot // guarded by mu: of which snap is what the mesh discovers
	told *config.Snapshot // guarded by mu: the newest that was read and of which every proxy has been told
}

// Debounce: changes are gathered until none came for quietFor, at most for gatherFor.
const (
	quietFor  = 10 * time.Millisecond
	gatherFor = 200 * time.Millisecond
)

// follow builds and pushes after changes.
func (c *controlPlane) follow(ctx context.Context) {
	for {
		renamed := false
		select {
		case <-c.source.Changes():
		case <-c.names.changed:
			renamed = true
		case <-c.settled.C:
			c.tell()
			continue
		case <-c.refused:
			c.tell()
			continue
		case <-ctx.Done():
			return
		}
		born := time.Now()
		for quiet := false; !quiet && time.Since(born) < gatherFor; {
			select {
			case <-c.source.Changes():
			case <-time.After(quietFor):
				quiet = true
			case <-ctx.Done():
				return
			}
		}
		types, changed := c.build(born, renamed)
		if changed {
			c.server.Changed(types...)
			c.publishRoots()
		}
		c.hasTold()
	}
}

// build makes the newest mesh and says which types it may touch; none means all. Renamed says that names of gateways have other
// addresses, which no configuration tells.
func (c *controlPlane) build(born time.Time, renamed bool) (types []string, changed bool) {
	snap := c.source.Snapshot()
	read := snap
	var before *model.Mesh
	if c.resources != nil {
		before = c.resources.Mesh()
		if before.Generation == snap.Generation() && !renamed {
			c.tell() // of an object that cannot be read there is no news but this
			return nil, false
		}
	}
	var cfg *model.MeshConfig
	cfg, c.found = c.settings(snap)
	if found := c.names.addresses(); len(found) > 0 {
		with := *cfg
		with.Networks.Resolved = found
		cfg = &with
	}
	if len(cfg.Discovery) > 0 {
		snap = snap.Only(cfg.Discovers)
	}
	reg := c.registry.Build(snap, cfg)
	m, problems := compile.Mesh(snap, cfg, reg, before)
	for _, p := range problems {
		c.found = append(c.found, problemOf(p, snap))
	}
	c.standards.set(compile.GatewayAPI(m), snap, c.o.Log)
	c.standards.ingresses(snap.List("Ingress"), compile.Ingresses(m), compile.IngressPoints(snap, m.Config))
	c.gateways.Set(c.deployed(m, snap))
	c.names.want(compile.GatewayNames(m))
	c.tell()
	if before != nil && before.Config.TrustDomain != cfg.TrustDomain {
		// The registry, what proxies are told and what the CA signs follow at once. What was signed before does not.
		c.o.Log.Warn("the trust domain is another one: workloads get it with their next certificate; keep the old one in trustDomainAliases until then",
			"was", before.Config.TrustDomain, "is", cfg.TrustDomain)
	}
	c.sizes.set(m)
	c.mu.Lock()
	last := c.snap
	c.snap, c.read = snap, read
	c.mu.Unlock()
	if c.resources == nil {
		c.resources = xds.NewMesh(xds.Translation{Names: translate.Names, Resource: translate.Resource, Own: translate.Own}, m, born)
		return nil, true
	}
	c.resources.Set(m, born)
	switch {
	case last == nil || renamed:
	case onlyEndpoints(last, snap, before, m):
		return []string{xds.EndpointType}, true
	case same(last, snap, "Secret") && slices.Equal(before.Gateways, m.Gateways):
		return []string{xds.SecretType}, true // listeners and clusters name them, whatever is in them
	}
	return nil, true
}

// settings returns those of the mesh. What is wrong must not open what was closed, so settings with
// a mistake change nothing: the last good ones stay in force, after a start those that an earlier control plane has kept. Where there
// were none ever, what can be read of them counts.
func (c *controlPlane) settings(snap *config.Snapshot) (cfg *model.MeshConfig, found []problem) {
	base := model.DefaultMeshConfig()
	base.RootNamespace, base.AccessLogFile, base.BesideIstio = c.o.Namespace, c.o.AccessLogFile, !c.o.AsIstio
	cfg, from, errs := mesh.Of(snap, c.o.Namespace, c.o.Shared, base)
	if len(errs) == 0 {
		c.good = cfg
		if c.lastGood != nil {
			c.lastGood.keep(from)
		}
		return cfg, nil
	}
	if c.good == nil {
		if last, ok := mesh.Last(snap, c.o.Namespace, base); ok {
			c.good = last
		}
	}
	for _, e := range errs {
		if c.good != nil {
			e.Msg += "; the settings from before stay in force"
		}
		found = append(found, problemOfMesh(e, from))
	}
	return cmp.Or(c.good, cfg), found
}

// same reports whether two snapshots are equal but for some kinds.
func same(last, snap *config.Snapshot, but ...string) bool {
	for _, k := range kube.Kinds {
		if !slices.Contains(but, k) && last.KindGeneration(k) != snap.KindGeneration(k) {
			return false
		}
	}
	return true
}

// onlyEndpoints reports whether nothing but the addresses behind services differs.
func onlyEndpoints(last, snap *config.Snapshot, before, m *model.Mesh) bool {
	return same(last, snap, "EndpointSlice", "Pod") && translate.OnlyEndpoints(before, m)
}

// tell says what is wrong with the configuration, in the log and on the objects.
func (c *controlPlane) tell() {
	if again := c.problems.set(slices.Concat(unreadable(c.source), c.found, c.refusals()), time.Now()); again > 0 {
		c.settled.Reset(again)
	}
	generation := func(id kube.ID) int64 {
		st, _ := c.source.Standing(id)
		return st.Generation
	}
	wanted := c.problems.wanted(generation)
	c.standards.add(wanted, generation)
	c.status.Set(wanted)
}

// publishRoots tells the publisher which namespaces there are, and whom the mesh trusts besides its own roots.
func (c *controlPlane) publishRoots() {
	c.publisher.Anchors(strings.Join(c.resources.Mesh().Config.TrustAnchors, ""))
	now := map[string]string{}
	for _, ns := range c.source.Snapshot().List("Namespace") {
		now[ns.Name] = ns.UID
	}
	c.publisher.Namespaces(now)
}

// trustDomain is that of the newest mesh.
func (c *controlPlane) trustDomain() string { return c.resources.Mesh().Config.TrustDomain }

// xdsCaller is who opened a stream: the holder of a certificate, or nobody on a
// plain connection from this host.
func xdsCaller(ctx context.Context) (pki.ID, error) {
	id, err := ca.ByClientCertificate(ctx)
	if err == nil || !loopbackPlain(ctx) {
		return id, err
	}
	return pki.ID{}, nil
}
