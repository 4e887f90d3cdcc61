package foreign

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/grpc"

	"github.com/mallamesh/malla/control/xds"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

func TestMain(m *testing.M) {
	if os.Getenv(envServer) != "" {
		os.Exit(serverMain())
	}
	if os.Getenv(envClient) != "" {
		os.Exit(clientMain())
	}
	code := m.Run()
	process.Clean()
	os.Exit(code)
}

// A plane is our control plane for a story that may change.
type plane struct {
	Address string
	t       *testing.T
	mesh    *xds.Mesh
	server  *xds.Server
	changes uint64
}

// newPlane serves a story in plain text on a port of its own.
func newPlane(t *testing.T, text string) *plane {
	t.Helper()
	return newPlaneBy(t, text, xds.Translation{Names: translate.Names, Resource: translate.Resource})
}

func newPlaneBy(t *testing.T, text string, by xds.Translation) *plane {
	t.Helper()
	p := &plane{t: t}
	p.mesh = xds.NewMesh(by, p.read(text), time.Now())
	p.server = xds.New(xds.Options{Source: p.mesh, Caller: func(context.Context) (pki.ID, error) { return pki.ID{}, nil }, Log: slog.New(slog.DiscardHandler)})
	g := grpc.NewServer()
	p.server.Register(g)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	p.Address = l.Addr().String()
	return p
}

// Change makes another story the mesh.
func (p *plane) Change(text string) {
	p.t.Helper()
	p.mesh.Set(p.read(text), time.Now())
	p.server.Changed()
}

func (p *plane) read(text string) *model.Mesh {
	p.t.Helper()
	s, err := story.Read(txtar.Parse([]byte(text)))
	if err != nil {
		p.t.Fatal(err)
	}
	p.changes++
	s.View.Mesh.Generation = p.changes
	return s.View.Mesh
}

// Refusals fails the test for every NACK that the server knows of.
func (p *plane) Refusals() {
	p.t.Helper()
	for _, c := range p.server.Clients() {
		for _, s := range c.Types {
			if s.Nack != nil {
				p.t.Errorf("%s refuses %s %v: %s", c.Node, xds.Short(s.Nack.Type), s.Nack.Names, s.Nack.Detail)
			}
		}
	}
}

// bootstrap writes what Istio's agent would for a gRPC application, and returns the file's name.
func (p *plane) bootstrap(name string, labels map[string]string) string {
	p.t.Helper()
	dir := p.t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, content []byte) {
		if err := os.WriteFile(file(name), content, 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	key, chain, err := authority(p.t).Serve(pki.ID{TrustDomain: "cluster.local", Namespace: "default", Account: name}, nil, nil, time.Hour, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	keyPEM, err := pki.EncodeKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	write("key.pem", keyPEM)
	write("cert.pem", pki.EncodeCertificates(chain...))
	write("roots.pem", authority(p.t).RootPEM())
	text, err := json.Marshal(map[string]any{
		"xds_servers": []any{map[string]any{"server_uri": p.Address, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"}}},
		"node": map[string]any{
			"id":       fmt.Sprintf("sidecar~127.0.0.1~%s.default~default.svc.cluster.local", name),
			"locality": map[string]any{}, // Node insists
			"metadata": map[string]any{"GENERATOR": "grpc", "LABELS": labels},
		},
		"certificate_providers": map[string]any{"default": map[string]any{"plugin_name": "file_watcher", "config": map[string]any{
			"certificate_file": file("cert.pem"), "private_key_file": file("key.pem"), "ca_certificate_file": file("roots.pem"), "refresh_interval": "600s"}}},
		"server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
	})
	if err != nil {
		p.t.Fatal(err)
	}
	write("bootstrap.json", text)
	return file("bootstrap.json")
}

var ca *pki.CA

// authority is the CA of all meshes here.
func authority(t *testing.T) *pki.CA {
	t.Helper()
	if ca == nil {
		var err error
		if ca, err = pki.NewCA("cluster.local", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return ca
}
