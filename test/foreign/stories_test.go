package foreign

import (
	"cmp"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
	"github.com/mallamesh/malla/translate/story"
)

var update = flag.Bool("update", false, "rewrite the answers in stories")

// TestStories plays the requests of stories through both proxies. What the two say, and what they have sent on, must
// be the same, and as it is written down.
//
// The proxies run where nothing is captured, so a story's listener is opened on a port of this machine (see moved_test.go),
// its endpoints are servers here that say which one they are (servers_test.go), and between them all is plain text, but for stories
// that say who has which certificate. Everything else is what a proxy of the story gets.
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
			p := &play{t: t, archive: archive, listeners: map[string][2]int{}, servers: map[standInKey]*standIn{}}
			p.open()
			p.proxies[0] = p.proxy(false, "DELTA_GRPC", ours, "--file-flush-interval-msec", "20")
			p.proxies[1] = p.proxy(true, "GRPC", envoy, "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "--file-flush-interval-msec", "20")
			p.ready()
			changed := false
			for i := 0; i < len(archive.Files); i++ { // answers are added on the way
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

// A play is one story with its proxies. What there is of both is ours and then the real one's.
type play struct {
	t         *testing.T
	archive   *txtar.Archive
	plane     *plane
	proxies   [2]*process.Process
	admin     [2]int
	views     [2]*model.View
	who       map[string]identity // of endpoints; nil: nobody speaks TLS
	how       map[string][]string // what servers do, if they do not just answer
	listeners map[string][2]int   // ports that they are opened on
	root      string              // of the files that proxies have

	mu      sync.Mutex
	servers map[standInKey]*standIn // guarded by mu
}

// A place is where a request goes: a listener, and to which address it was sent before it was captured, if it was.
type place struct {
	listener string
	to       netip.AddrPort
}

const (
	outbound = "virtualOutbound" // the listener for what a workload sends
	inbound  = "virtualInbound"  // and for what it receives
)

// where reads the name of a section:
//
//	request LISTENER             to a port of its own
//	request to ADDRESS:PORT      from the application, to wherever that leads
//	request virtualInbound PORT  to a port of the application
func (p *play) where(section string) place {
	name := strings.TrimPrefix(section, "request ")
	if to, ok := strings.CutPrefix(name, "to "); ok {
		at, err := netip.ParseAddrPort(to)
		if err != nil {
			p.t.Fatalf("%s: %v", section, err)
		}
		return place{outbound, at}
	}
	if port, ok := strings.CutPrefix(name, inbound+" "); ok {
		at, err := netip.ParseAddrPort(net.JoinHostPort(p.views[0].Proxy.IPs[0].String(), port))
		if err != nil {
			p.t.Fatalf("%s: %v", section, err)
		}
		return place{inbound, at}
	}
	return place{listener: name}
}

// open starts the control plane.
func (p *play) open() {
	s, err := story.Read(p.archive)
	if err != nil {
		p.t.Fatal(err)
	}
	for side := range p.views {
		proxy := *s.View.Proxy
		proxy.Stock = side == 1
		p.views[side] = model.NewView(&proxy, s.View.Mesh)
	}
	for _, f := range p.archive.Files {
		if !isRequest(f) {
			continue
		}
		if l := p.where(f.Name).listener; p.listeners[l][0] == 0 {
			p.listeners[l] = [2]int{mesh.FreePort(p.t), mesh.FreePort(p.t)}
		}
	}
	p.readServers()
	p.files()
	p.plane = newPlaneBy(p.t, string(txtar.Format(p.archive)), xds.Translation{Names: p.names, Resource: p.resource})
}

// nodeID is by what the story's proxy is known.
func (p *play) nodeID() string {
	of := p.views[0].Proxy
	return fmt.Sprintf("%s~%s~%s.%s~%s.svc.cluster.local", of.Type, of.IPs[0], of.Name, of.Namespace, of.Namespace)
}

// proxy starts a proxy as the one of the story.
func (p *play) proxy(stock bool, form, program string, args ...string) *process.Process {
	of := p.views[0].Proxy
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
	me := p.certificate(pki.ID{TrustDomain: "cluster.local", Namespace: of.Namespace, Account: cmp.Or(of.ServiceAccount, "default")}.String())
	node := map[string]any{"id": p.nodeID(), "cluster": "story", "metadata": metadata}
	if of.Locality != "" {
		parts := append(strings.Split(of.Locality, "/"), "", "")
		node["locality"] = map[string]any{"region": parts[0], "zone": parts[1], "sub_zone": parts[2]}
	}
	file, admin := joinsBy(p.t, form, p.plane.Address, node, func(static map[string]any) { p.secrets(static, stock, me) })
	p.admin[side(stock)] = admin
	args = append([]string{"-c", file}, args...)
	if p.root != "" && !stock {
		return process.Start(p.t, "env", append([]string{"SSL_CERT_FILE=" + filepath.Join(p.root, machine), program}, args...)...)
	}
	return process.Start(p.t, program, args...)
}

func side(stock bool) int {
	if stock {
		return 1
	}
	return 0
}

// ready waits until both proxies have all that they are sent at first, and have opened every listener.
func (p *play) ready() {
	p.t.Helper()
	for side := range p.proxies {
		p.opened(side)
	}
}

// opened waits until the proxy of a side has.
func (p *play) opened(side int) {
	p.t.Helper()
	check := func(what string, f func() error) {
		if _, err := mesh.Wait(30*time.Second, func() error {
			p.plane.Refusals()
			if p.t.Failed() {
				p.t.FailNow()
			}
			return f()
		}); err != nil {
			p.t.Fatalf("%s: %v\n%s", what, err, p.proxies[side].Log())
		}
	}
	check(fmt.Sprintf("ready (%d)", side), func() error {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", p.admin[side]))
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", r.Status)
		}
		return nil
	})
	for name, ports := range p.listeners {
		check("listener "+name, func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[side]))
			if err == nil {
				c.Close()
			}
			return err
		})
	}
}

// said is what proxies answer to the requests of one section, by their sides.
func (p *play) said(f txtar.File, sides ...int) (answers [2]string) {
	p.t.Helper()
	to := p.where(f.Name)
	var got [2]strings.Builder
	for _, text := range strings.Split(strings.TrimSpace(string(f.Data)), "\n\n") {
		a, err := readAsk(text)
		if err != nil {
			p.t.Fatalf("%s: %v", f.Name, err)
		}
		for _, side := range sides {
			fmt.Fprintf(&got[side], "%s\n", p.ask(side, to, a))
		}
	}
	for side := range got {
		answers[side] = strings.TrimRight(got[side].String(), "\n") + "\n"
	}
	return answers
}

// scene plays the requests of one section, and reports whether the answers are not those of the next.
func (p *play) scene(i int) (changed bool) {
	p.t.Helper()
	f := p.archive.Files[i]
	both := p.said(f, 0, 1)
	ours, theirs := both[0], both[1]
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
