package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protojson"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/base/version"
	"github.com/mallamesh/malla/control/ca"
	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
)

// loopbackPlain reports whether a call came in plain text from this host.
func loopbackPlain(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return false
	}
	if _, secure := p.AuthInfo.(credentials.TLSInfo); secure {
		return false
	}
	a, ok := p.Addr.(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// serveUntil serves HTTP until ctx ends, with TLS if the server has a configuration.
func serveUntil(ctx context.Context, addr string, s *http.Server) error {
	s.ReadHeaderTimeout = 10 * time.Second
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		shut, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = s.Shutdown(shut)
	}()
	if s.TLSConfig != nil {
		err = s.ServeTLS(l, "", "")
	} else {
		err = s.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// serveHTTP serves metrics, readiness and the debug pages on 15014.
func (c *controlPlane) serveHTTP(ctx context.Context, client kubernetes.Interface, metrics *prometheus.Registry) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(version.String() + "\n")) })
	mux.Handle("GET /debug/", protected(c.debugPages(), ca.TokenReviewer{Client: client}, c.o.Namespace))
	return serveUntil(ctx, net.JoinHostPort(c.o.Listen, "15014"), &http.Server{Handler: mux})
}

// debugPages show what the control plane knows of everybody.
func (c *controlPlane) debugPages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/syncz", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, c.server.Clients()) })
	mux.HandleFunc("GET /debug/adsz", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, c.server.Clients()) })
	mux.HandleFunc("GET /debug/registryz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, c.resources.Mesh().Registry.Services)
	})
	mux.HandleFunc("GET /debug/endpointz", func(w http.ResponseWriter, _ *http.Request) {
		out := map[string]*model.EndpointSet{}
		for k, v := range c.resources.Mesh().Registry.Endpoints {
			out[k.Namespace+"/"+k.Host] = v
		}
		writeJSON(w, out)
	})
	mux.HandleFunc("GET /debug/mesh", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, c.resources.Mesh().Config) })
	mux.HandleFunc("GET "+distributionPath, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, c.distribution()) })
	mux.HandleFunc("GET /debug/config_dump", c.dump)
	return mux
}

// protected opens a page to callers on this host, and to those with a token of a
// service account of the control plane's namespace: the pages tell of the whole
// mesh, which is not every pod's business.
func protected(h http.Handler, r ca.Reviewer, namespace string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if from, err := netip.ParseAddrPort(q.RemoteAddr); err == nil && from.Addr().Unmap().IsLoopback() {
			h.ServeHTTP(w, q)
			return
		}
		token, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
		if !ok {
			http.Error(w, "not from elsewhere without a token: ask on this host (kubectl exec or port-forward), or send Authorization: Bearer with a token of namespace "+
				namespace+" for the audience "+ca.Audience, http.StatusUnauthorized)
			return
		}
		ctx, cancel := context.WithTimeout(q.Context(), 5*time.Second)
		defer cancel()
		switch ns, account, err := r.Review(ctx, strings.TrimSpace(token)); {
		case err != nil:
			http.Error(w, "token: "+err.Error(), http.StatusUnauthorized)
		case ns != namespace:
			http.Error(w, fmt.Sprintf("account %s/%s may not see this, want one of namespace %s", ns, account, namespace), http.StatusForbidden)
		default:
			h.ServeHTTP(w, q)
		}
	})
}

// webhooks answers on 15017; there is nothing to admit here yet.
func (c *controlPlane) webhooks() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

// dump shows what a workload's proxy is sent: ?proxyID=pod.namespace (add
// &type=router for a gateway).
func (c *controlPlane) dump(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("proxyID")
	m := c.resources.Mesh()
	for _, wl := range m.Registry.Workloads {
		if wl.Name+"."+wl.Namespace != id {
			continue
		}
		p := &model.Proxy{ID: id, Type: model.Sidecar, Namespace: wl.Namespace, Name: wl.Name, IPs: wl.Addrs, Labels: wl.Labels, ServiceAccount: wl.ServiceAccount, TrustDomain: m.Config.TrustDomain}
		if r.URL.Query().Get("type") == string(model.Router) {
			p.Type = model.Router
		}
		writeJSON(w, resourcesOf(c.resources.For(p).Resources()))
		return
	}
	http.Error(w, "no pod is called "+id+"; want ?proxyID=<pod>.<namespace>", http.StatusNotFound)
}

// resourcesOf lists everything a proxy sees, by type and name.
func resourcesOf(r xds.Resources) map[string]map[string]json.RawMessage {
	out := map[string]map[string]json.RawMessage{}
	for _, t := range []string{xds.ClusterType, xds.EndpointType, xds.ListenerType, xds.RouteType, xds.ExtensionType} {
		out[xds.Short(t)] = map[string]json.RawMessage{}
		for _, name := range r.Names(t) {
			res, ok := r.Resource(t, name)
			if !ok {
				continue
			}
			if text, err := protojson.Marshal(res.Body); err == nil {
				out[xds.Short(t)][name] = text
			}
		}
	}
	return out
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the reader has gone
}

// sizes are the gauges of what the mesh holds.
type sizes struct{ services, rules prometheus.Gauge }

func newSizes(r prometheus.Registerer) *sizes {
	s := &sizes{
		services: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_services", Help: "Services known."}),
		rules:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_virt_services", Help: "VirtualServices known."}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_info", Help: "Version of the control plane.", ConstLabels: prometheus.Labels{"version": version.String()}})
	info.Set(1)
	r.MustRegister(s.services, s.rules, info)
	return s
}

func (s *sizes) set(m *model.Mesh) {
	s.services.Set(float64(len(m.Registry.Services)))
	s.rules.Set(float64(len(m.Rules)))
}
