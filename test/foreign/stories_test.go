package foreign

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

var update = flag.Bool("update", false, "rewrite the answers in stories")

// TestStories plays the requests of stories through both proxies. What the two say, and what they have sent on, must
// be the same, and as it is written down.
//
// The proxies run where nothing is captured, so a story's listener is opened on a port of this machine, its endpoints
// are servers here that say which one they are, and between them all is plain text, but for stories that say who has which
// certificate. Everything else is what a proxy of the story gets.
func TestStories(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "translate", "testdata", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("stories: %v, %d files", err, len(files))
	}
	envoy, ours := process.Envoy(t), process.Proxy(t)
	played := 0
	for _, name := range files {
		archive, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(archive.Files, func(f txtar.File) bool { return isRequest(f) }) {
			continue
		}
		played++
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			p := &play{t: t, archive: archive, listeners: map[string][2]int{}, backends: map[string]uint32{}}
			p.open()
			malla := p.proxy(false, "DELTA_GRPC", ours)
			real := p.proxy(true, "GRPC", envoy, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
			p.ready(malla, real)
			changed := false
			for i := range archive.Files {
				if isRequest(archive.Files[i]) {
					changed = p.scene(i) || changed
				}
			}
			p.plane.Refusals()
			if changed && *update {
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if played == 0 {
		t.Error("no story has a request")
	}
}

const answerSection = "answer"

func isRequest(f txtar.File) bool { return strings.HasPrefix(f.Name, "request ") }

// A play is one story with its proxies.
type play struct {
	t         *testing.T
	archive   *txtar.Archive
	plane     *plane
	who       map[string]string // identities of endpoints; nil: nobody speaks TLS
	listeners map[string][2]int // ports at our proxy and at the real one
	mu        sync.Mutex
	backends  map[string]uint32 // guarded by mu: ports of the servers that stand for endpoints
}

// open starts the control plane.
func (p *play) open() {
	for _, f := range p.archive.Files {
		if name, ok := strings.CutPrefix(f.Name, "request "); ok && p.listeners[name][0] == 0 {
			p.listeners[name] = [2]int{mesh.FreePort(p.t), mesh.FreePort(p.t)}
		}
	}
	p.who = p.certificates()
	p.plane = newPlaneBy(p.t, string(txtar.Format(p.archive)), xds.Translation{
		Names: func(v *model.View, typeURL string) []string {
			names := translate.Names(v, typeURL)
			if typeURL == translate.ListenerType {
				names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, ports := p.place(n); return ports[0] == 0 })
			}
			return names
		},
		Resource: p.resource,
	})
}

// resource is what a proxy of the story gets, moved to this machine.
func (p *play) resource(v *model.View, typeURL, name string) (proto.Message, bool) {
	m, ok := translate.Resource(v, typeURL, name)
	if !ok {
		return nil, false
	}
	m = proto.Clone(m)
	switch m := m.(type) {
	case *listenerv3.Listener:
		was, ports := p.place(name)
		if ports[0] == 0 {
			return nil, false
		}
		port := ports[0]
		if v.Proxy.Stock {
			port = ports[1]
		}
		m.Address, m.BindToPort, m.AdditionalAddresses = here(uint32(port)), nil, nil
		if was != 0 {
			arriving(m, was, uint32(port))
		}
	case *clusterv3.Cluster:
		if p.who == nil {
			m.TransportSocketMatches, m.TransportSocket = nil, nil
		}
		if strings.HasPrefix(name, "inbound|") {
			p.toApplication(m)
		} else if m.LoadAssignment != nil {
			p.move(m.LoadAssignment)
			m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		}
	case *endpointv3.ClusterLoadAssignment:
		p.move(m)
	}
	return m, true
}

func here(port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

// place returns the ports that a listener is opened on, and if it is the one for what comes in, for which port of the workload.
func (p *play) place(listener string) (was uint32, ports [2]int) {
	if listener != inbound {
		return 0, p.listeners[listener]
	}
	for name, ports := range p.listeners {
		if port, ok := strings.CutPrefix(name, inbound+" "); ok {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				p.t.Fatalf("request %s: %v", name, err)
			}
			return uint32(n), ports
		}
	}
	return 0, [2]int{}
}

// move puts a server in the place of each endpoint.
func (p *play) move(a *endpointv3.ClusterLoadAssignment) {
	for _, l := range a.Endpoints {
		for _, e := range l.LbEndpoints {
			if at := e.GetEndpoint().GetAddress().GetSocketAddress(); at != nil {
				e.GetEndpoint().Address = here(p.backend(net.JoinHostPort(at.GetAddress(), strconv.Itoa(int(at.GetPortValue())))))
			}
		}
	}
}

// backend is a server that says who it is, and what it was asked.
func (p *play) backend(name string) uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if port := p.backends[name]; port != 0 {
		return port
	}
	s := httptest.NewUnstartedServer(tunneled(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		over := ""
		if r.ProtoMajor == 2 {
			over = " over HTTP/2"
		}
		fmt.Fprintf(w, "%s got %s %s%s\nhost: %s\n%s%s", name, r.Method, r.RequestURI, over, r.Host, headers(r.Header), introduction(r.Context())+met(r.Context()))
	})))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Listener = announced{s.Listener}
	if who := p.who[name]; who != "" {
		s.Listener = secure{s.Listener, p.serverTLS(who)}
	}
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) }
	s.Start()
	p.t.Cleanup(s.Close)
	port := uint32(s.Listener.Addr().(*net.TCPAddr).Port)
	p.backends[name] = port
	return port
}

// Headers that differ from request to request, or that only Istio's filters add.
var volatile = []string{"x-request-id", "x-envoy-upstream-service-time", "date", "x-envoy-peer-metadata", "x-envoy-peer-metadata-id", "x-envoy-decorator-operation"}

// headers are lines, sorted.
func headers(h http.Header) string {
	var lines []string
	for name, values := range h {
		if name = strings.ToLower(name); slices.Contains(volatile, name) {
			continue
		}
		for _, v := range values {
			switch name {
			case "x-forwarded-for":
				v = withoutMachine(v)
			case "x-forwarded-client-cert":
				v = hideHash(v)
			case "x-forwarded-port":
				v = "(the listener's)" // each proxy has its own
			}
			lines = append(lines, name+": "+v+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// withoutMachine names addresses of this machine in a list by what they are: in the place of a client's loopback address,
// proxies put the one that they have towards others.
func withoutMachine(list string) string {
	own, _ := net.InterfaceAddrs()
	parts := strings.Split(list, ",")
	for i, part := range parts {
		if slices.ContainsFunc(own, func(a net.Addr) bool { return strings.HasPrefix(a.String(), part+"/") }) {
			parts[i] = "this-machine"
		}
	}
	return strings.Join(parts, ",")
}

// proxy starts a proxy as the one of the story.
func (p *play) proxy(stock bool, form, program string, args ...string) *process.Process {
	s, err := story.Read(p.archive)
	if err != nil {
		p.t.Fatal(err)
	}
	of := s.View.Proxy
	labels := map[string]any{}
	for k, v := range of.Labels {
		labels[k] = v
	}
	metadata := map[string]any{"LABELS": labels}
	for k, v := range of.Metadata {
		metadata[k] = v
	}
	if stock {
		metadata["MALLA_PROFILE"] = xds.StockProfile
	}
	id := fmt.Sprintf("%s~%s~%s.%s~%s.svc.cluster.local", of.Type, of.IPs[0], of.Name, of.Namespace, of.Namespace)
	var secrets []func(map[string]any)
	if p.who != nil {
		me := p.certificate(pki.ID{TrustDomain: "cluster.local", Namespace: of.Namespace, Account: cmp.Or(of.ServiceAccount, "default")}.String())
		secrets = append(secrets, func(static map[string]any) { p.secrets(static, stock, me) })
	}
	file := joins(p.t, form, p.plane.Address, map[string]any{"id": id, "cluster": "story", "metadata": metadata}, secrets...)
	return process.Start(p.t, program, append([]string{"-c", file}, args...)...)
}

// ready waits until both proxies have opened every listener.
func (p *play) ready(malla, real *process.Process) {
	p.t.Helper()
	for name, ports := range p.listeners {
		for i, from := range []*process.Process{malla, real} {
			if _, err := mesh.Wait(30*time.Second, func() error {
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[i]))
				if err == nil {
					c.Close()
				}
				return err
			}); err != nil {
				p.plane.Refusals()
				p.t.Fatalf("listener %s: %v\n%s", name, err, from.Log())
			}
		}
	}
}

// scene plays the requests of one section, and reports whether the answers are not those of the next.
func (p *play) scene(i int) (changed bool) {
	p.t.Helper()
	f := p.archive.Files[i]
	ports := p.listeners[strings.TrimPrefix(f.Name, "request ")]
	var got [2]strings.Builder
	for _, request := range strings.Split(strings.TrimSpace(string(f.Data)), "\n\n") {
		for side, port := range ports {
			fmt.Fprintf(&got[side], "%s\n", p.ask(port, request))
		}
	}
	ours, theirs := strings.TrimRight(got[0].String(), "\n")+"\n", strings.TrimRight(got[1].String(), "\n")+"\n"
	if ours != theirs {
		p.t.Errorf("%s:\nmalla says\n%s\nEnvoy says\n%s", f.Name, ours, theirs)
		return false
	}
	has := i+1 < len(p.archive.Files) && p.archive.Files[i+1].Name == answerSection
	switch {
	case has && string(p.archive.Files[i+1].Data) == ours:
		return false
	case !*update:
		p.t.Errorf("%s: both say what the story does not:\n%s", f.Name, ours)
	case has:
		p.archive.Files[i+1].Data = []byte(ours)
	default:
		p.archive.Files = slices.Insert(p.archive.Files, i+1, txtar.File{Name: answerSection, Data: []byte(ours)})
	}
	return true
}

// ask sends one request, and returns the answer as text. How a connection is refused, and in which words, is a matter of
// the moment.
func (p *play) ask(port int, request string) string {
	as := ""
	if line, rest, ok := strings.Cut(request, "\n"); ok && strings.HasPrefix(line, "as ") {
		as, request = strings.TrimPrefix(line, "as "), rest
	}
	c, with, err := p.connect(port, as)
	if err != nil {
		return "no connection\n"
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	r, err := exchange(c, request)
	if err != nil {
		return with + "no answer\n"
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error() + "\n"
	}
	text := fmt.Sprintf("%s%d\n%s", with, r.StatusCode, headers(r.Header))
	if len(body) > 0 {
		text += strings.TrimRight(string(body), "\n") + "\n"
	}
	return text
}
