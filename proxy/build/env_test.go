package build

import (
	"log/slog"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
)

// discard is an access log that nobody reads.
type discard struct{}

func (d discard) OpenPrivate(p string) (Lines, error)     { return d.Open(p) }
func (discard) Open(string) (Lines, error)                { return discard{}, nil }
func (discard) Write(int, *access.Format, *access.Record) {}
func (discard) Append([]byte)                             {}

func testEnv(t *testing.T) *Env {
	t.Helper()
	return &Env{Node: &corev3.Node{Id: "n"}, Stats: stats.NewRegistry(false), Istio: stats.NewIstio(stats.IstioOptions{}), Secrets: NewSecrets(), Files: discard{},
		Log: slog.New(slog.DiscardHandler), Publish: func(*shard.Runtime) {}, Context: t.Context()}
}
