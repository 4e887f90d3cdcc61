//go:build linux

package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"golang.org/x/sync/errgroup"

	"github.com/mallamesh/malla/app/proxy"
	"github.com/mallamesh/malla/base/version"
	"github.com/mallamesh/malla/config/validate"
	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/api"
	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/local/deploy"
	"github.com/mallamesh/malla/local/endpoints"
	"github.com/mallamesh/malla/local/files"
	"github.com/mallamesh/malla/local/pods"
	"github.com/mallamesh/malla/local/publish"
	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/local/seed"
)

// superviseOptions go from the parent to the supervisor, as JSON on descriptor 3.
type superviseOptions struct {
	Dir    string // of the mesh
	Token  string // of the administrator
	Inject bool
	Images []imageRule
	Cwd    string
}

// apiPort is the port that the API server asks the broker for; it is opened
// anywhere on loopback.
const apiPort = 6443

// supervise is the supervisor: the network between the pods, the API server, the
// controllers and the kubelet. It ends with its parent.
func supervise(ctx context.Context) error {
	if err := sandbox.EnterSupervisor(); err != nil {
		return err
	}
	var o superviseOptions
	in := os.NewFile(3, "options")
	if err := json.NewDecoder(in).Decode(&o); err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	in.Close()
	dir := meshDir(o.Dir)
	out, err := os.OpenFile(dir.path(fileLog), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	if err := redirect(out, 1, 2); err != nil { // the terminal is the parent's
		return err
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	if err := superviseWith(ctx, o, dir, log); err != nil {
		log.Error("the supervisor ends", "reason", err)
		return err
	}
	return nil
}

func superviseWith(ctx context.Context, o superviseOptions, dir meshDir, log *slog.Logger) error {
	toHost := broker.NewClient(dir.path(fileBroker))
	network, err := router.New(router.Config{Broker: toHost, Log: log})
	if err != nil {
		return err
	}
	defer network.Close()
	box, err := sandbox.New(dir.path(dirPods), network, log, filepath.Dir(string(dir)))
	if err != nil {
		return err
	}
	defer box.Close()
	return (&supervisor{o: o, dir: dir, log: log, toHost: toHost, net: network, box: box, applied: make(chan struct{})}).run(ctx)
}

type supervisor struct {
	o       superviseOptions
	dir     meshDir
	log     *slog.Logger
	toHost  *broker.Client
	net     *router.Router
	box     *sandbox.Runtime
	client  kubernetes.Interface // set before anybody can write
	objects dynamic.Interface    // of any kind

	closeAPI func() error  // once
	applied  chan struct{} // closed when the files have been applied for the first time
}

func (s *supervisor) run(ctx context.Context) error {
	cert, rootPEM, err := s.dir.apiCertificate(router.KubernetesIPs)
	if err != nil {
		return err
	}
	server, err := api.New(api.Options{
		StateFile: s.dir.path(fileState), Log: s.log, RootCA: rootPEM, AdminToken: s.o.Token,
		TLS:      &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12},
		IPv4Only: !s.net.IPv6(),
		Admit:    []api.Admitter{api.AdmitFunc(s.admit)},
	})
	if err != nil {
		return err
	}
	s.closeAPI = sync.OnceValue(server.Close)
	defer s.closeAPI()
	cfg := server.Config()
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	s.client = client
	anything, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	s.objects = anything
	table := &programs{rules: s.o.Images, cwd: s.o.Cwd, shims: s.dir.path("shims")}
	kubelet := pods.New(pods.Options{
		Client: client, Runtime: s.box, Router: s.net, Program: table.program, Dir: s.dir.path("logs"), Claims: s.dir.path("claims"),
		Broker: s.toHost, RootCA: rootPEM, Log: s.log,
	})
	server.SetPods(kubelet)
	if err := seed.Clear(ctx, anything); err != nil {
		return err
	}
	if err := kubelet.Recover(ctx); err != nil {
		return fmt.Errorf("make order after the last run: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	if err := s.serve(ctx, g, server); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	g.Go(func() error { return quiet(ctx, deploy.New(client, s.log).Run(ctx, factory)) })
	g.Go(func() error { return quiet(ctx, endpoints.New(client, s.log).Run(ctx, factory)) })
	g.Go(func() error { return s.afterFiles(ctx, func() error { return kubelet.Run(ctx, factory) }) })
	g.Go(func() error { return quiet(ctx, pods.Network(ctx, factory, s.net, s.log)) })
	g.Go(func() error {
		return s.afterFiles(ctx, func() error { return publish.Run(ctx, client, factory, s.toHost, s.log) })
	})
	g.Go(func() error { return quiet(ctx, seed.Follow(ctx, anything, factory, s.log)) })
	if err := seed.MeshConfig(ctx, anything); err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	<-ctx.Done()
	return quiet(ctx, g.Wait())
}

// afterFiles runs what makes objects work on this machine, once the files have been applied: what
// an earlier run has left, of another directory maybe, is to get no ports before it goes.
func (s *supervisor) afterFiles(ctx context.Context, run func() error) error {
	select {
	case <-s.applied:
		return quiet(ctx, run())
	case <-ctx.Done():
		return nil
	}
}

// serve answers the API on a Unix socket and, through the broker, on loopback for
// people, and on the address of service kubernetes for pods.
func (s *supervisor) serve(ctx context.Context, g *errgroup.Group, server *api.Server) error {
	socket := s.dir.path(fileAPI)
	_ = os.Remove(socket)
	unix, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return err
	}
	// One socket for both families: KubernetesIPs are local addresses of the router.
	inside, err := net.Listen("tcp", ":443")
	if err != nil {
		return fmt.Errorf("listen for the API: %w", err)
	}
	host, published, err := s.toHost.Listen(ctx, broker.ListenRequest{Owner: "malla/api", Port: apiPort})
	if err != nil {
		return err
	}
	if err := writeFile(s.dir.path(fileEndpoint), []byte(published.Host.String()+"\n")); err != nil {
		return err
	}
	wrapped := withFiles(server, sync.OnceFunc(func() { close(s.applied) }))
	wrapped.Handle("GET "+settledPath, &settler{s: s})
	g.Go(func() error { return serveUnix(ctx, unix, wrapped) })
	for _, l := range []net.Listener{inside, host} {
		g.Go(func() error { return server.Serve(l) })
	}
	g.Go(func() error {
		<-ctx.Done()
		return s.closeAPI()
	})
	return nil
}

// ready tells the parent that the API answers: it closes descriptor 4.
func (s *supervisor) ready() error {
	f := os.NewFile(4, "ready")
	if f == nil {
		return errors.New("descriptor 4 is missing")
	}
	_, err := f.WriteString("ready " + version.String() + "\n")
	f.Close()
	return err
}

// admit judges what people write, completes pods, and adds the sidecar.
func (s *supervisor) admit(ctx context.Context, r *api.Request) ([]string, error) {
	if r.Object == nil || r.Subresource == "status" {
		return nil, nil
	}
	var warnings []string
	if r.Subresource == "" && metav1.GetControllerOfNoCopy(r.Object) == nil { // what a controller makes was judged with its owner
		result := validate.Object(r.Object, nil)
		s.judgeShared(ctx, r, &result)
		if err := result.Errors.Err(); err != nil {
			return nil, err
		}
		for _, n := range result.Notices {
			if r.Object.GetAnnotations()[seed.Mark] != "" {
				break // nobody wrote these objects, so nobody needs to know
			}
			warnings = append(warnings, n.String())
		}
	}
	if r.Kind.Kind == "Namespace" && r.Operation == api.Update {
		warnings = append(warnings, s.needRestart(ctx, r)...)
	}
	warnings = append(warnings, s.tooLate(ctx, r)...)
	if r.Kind.Kind == "Pod" && r.Operation == api.Create {
		more, err := s.admitPod(ctx, r)
		return append(warnings, more...), err
	}
	return warnings, nil
}

// needRestart names the pods that a namespace's new label comes too late for.
func (s *supervisor) needRestart(ctx context.Context, r *api.Request) []string {
	now := r.Object.GetLabels()
	if now[inject.NamespaceLabel] == r.Old.GetLabels()[inject.NamespaceLabel] {
		return nil
	}
	list, err := s.client.CoreV1().Pods(r.Name).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Name, Labels: now}}
	var names []string
	var late []*corev1.Pod
	for i := range list.Items {
		p := &list.Items[i]
		if wanted, _ := inject.Wanted(p, ns, s.o.Inject); wanted != inject.Injected(p) {
			names, late = append(names, p.Name), append(late, p)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{"these pods run as before until they are restarted: " + strings.Join(names, ", ") + restartHint(s.o.Dir, late)}
}

// admitPod puts a pod on this node and injects the sidecar.
func (s *supervisor) admitPod(ctx context.Context, r *api.Request) ([]string, error) {
	var p corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object.Object, &p); err != nil {
		return nil, err
	}
	p.Spec.NodeName = pods.Node
	if p.Spec.ServiceAccountName == "" {
		p.Spec.ServiceAccountName = "default"
	}
	ns, err := s.namespace(ctx, r)
	if err != nil {
		return nil, err
	}
	out, _, err := inject.Pod(&p, ns, s.injection(s.proxySettings(ctx)))
	if err != nil {
		return nil, err
	}
	if inject.Gateway(out) {
		if err := s.tellPorts(ctx, out); err != nil {
			return nil, err
		}
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(out)
	if err != nil {
		return nil, err
	}
	gvk := r.Object.GroupVersionKind()
	r.Object.Object = fields
	r.Object.SetGroupVersionKind(gvk)
	return nil, nil
}

// tellPorts tells a gateway by which numbers its Services call its ports: the
// broker knows the gateway's 8080 as port 80.
func (s *supervisor) tellPorts(ctx context.Context, p *corev1.Pod) error {
	services, err := s.client.CoreV1().Services(p.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var pairs []string
	for _, svc := range services.Items {
		if len(svc.Spec.Selector) == 0 || !labels.SelectorFromSet(svc.Spec.Selector).Matches(labels.Set(p.Labels)) {
			continue
		}
		for _, port := range svc.Spec.Ports {
			if n := port.TargetPort.IntVal; n != 0 && n != port.Port {
				pairs = append(pairs, fmt.Sprintf("%d=%d", n, port.Port))
			}
		}
	}
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == inject.Container && len(pairs) > 0 {
			c.Env = append(c.Env, corev1.EnvVar{Name: proxy.EnvPorts, Value: strings.Join(pairs, ",")})
		}
	}
	return nil
}

func (s *supervisor) namespace(ctx context.Context, r *api.Request) (*corev1.Namespace, error) {
	return s.client.CoreV1().Namespaces().Get(ctx, r.Namespace, metav1.GetOptions{})
}

// serveUnix answers on the Unix socket, whose file only this user may open.
func serveUnix(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Paths beside the API for the parent, which reads the files.
const (
	rejectionsPath = "/malla/rejections" // takes what could not be applied
	appliedPath    = "/malla/applied"    // hears that the files have been applied
)

// withFiles adds these paths to the API.
func withFiles(server *api.Server, applied func()) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("/", server.Handler())
	mux.HandleFunc("PUT "+appliedPath, func(w http.ResponseWriter, _ *http.Request) {
		applied()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("PUT "+rejectionsPath, func(w http.ResponseWriter, r *http.Request) {
		var all []files.Rejection
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20)).Decode(&all); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var list []api.Rejection
		for _, x := range perObject(all) {
			list = append(list, api.Rejection(x))
		}
		if err := server.SetRejections(list); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// perObject makes one rejection of all mistakes of an object, which has one STATUS;
// one without a name is what stands at its place.
func perObject(all []files.Rejection) []files.Rejection {
	at := map[files.Rejection]int{}
	var out []files.Rejection
	for _, x := range all {
		o := x
		o.Message, o.Text = "", ""
		if x.Name != "" {
			o.Source = ""
		}
		if i, ok := at[o]; ok && x.Kind != "" {
			out[i].Message += "; " + x.Message
			continue
		}
		at[o] = len(out)
		out = append(out, x)
	}
	return out
}
