package build_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/build"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/xdsclient"
	"github.com/mallamesh/malla/translate"
	"github.com/mallamesh/malla/translate/story"
)

// nowhere is where test logs go.
type nowhere struct{}

func (n nowhere) OpenPrivate(p string) (build.Lines, error) { return n.Open(p) }
func (nowhere) Open(string) (build.Lines, error)            { return nowhere{}, nil }
func (nowhere) Write(int, *access.Format, *access.Record)   {}
func (nowhere) Append([]byte)                               {}
func newEnv(t *testing.T, published *[]*shard.Runtime) *build.Env {
	t.Helper()
	secrets := build.NewSecrets()
	secrets.Local("default", "ROOTCA")
	return &build.Env{
		Node: &corev3.Node{Id: "sidecar~10.0.0.1~a.default~default.svc.cluster.local"}, Stats: stats.NewRegistry(true), Istio: stats.NewIstio(stats.IstioOptions{}),
		Secrets: secrets, Files: nowhere{}, Log: slog.New(slog.DiscardHandler), Context: t.Context(),
		Publish: func(r *shard.Runtime) { *published = append(*published, r) },
	}
}

// Whatever our control plane makes, our proxy takes: all stories of translate.
func TestTakesWhatWeTranslate(t *testing.T) {
	files, err := filepath.Glob("../../translate/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := story.Read(archive)
			if err != nil {
				t.Skip(err) // a story about what cannot be read
			}
			s.View.Proxy.Stock = false // our proxy is none; what a real one gets, a real one is asked about
			if len(translate.ExtensionNames(s.View)) > 0 {
				t.Skip("is for a real Envoy, which asks for filters by name")
			}
			var published []*shard.Runtime
			store := build.NewStore(newEnv(t, &published), nil)
			defer store.Close()
			store.Dynamic(xdsclient.ClusterType, 0)
			store.Dynamic(xdsclient.ListenerType, 0)
			store.Start()
			for _, typ := range xdsclient.Types {
				u := xdsclient.Update{Type: typ}
				for _, n := range translate.Names(s.View, typ) {
					if strings.HasPrefix(n, "file-") {
						continue // names files that are not there
					}
					m, ok := translate.Resource(s.View, typ, n)
					if !ok {
						t.Errorf("%s has no %s", typ, n)
						continue
					}
					body, err := anypb.New(m)
					if err != nil {
						t.Fatal(err)
					}
					u.Resources = append(u.Resources, xdsclient.Resource{Name: n, Version: "1", Body: body})
				}
				for _, f := range store.Apply(u) {
					t.Errorf("refuses %s: %v", f.Name, f.Err)
				}
			}
		})
	}
}
