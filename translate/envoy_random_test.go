package translate_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate/story"
)

// TestEnvoyAcceptsRandom asks a real Envoy about meshes that nobody would write:
// overlapping hosts and addresses, rules for everything, ports of every kind.
// Envoy refuses tables and listeners that claim anything twice.
func TestEnvoyAcceptsRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("a real Envoy is not asked with -short")
	}
	envoy, err := story.FindEnvoy("..")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11))
			var store config.Store
			for step := range 60 {
				edit(t, r, &store, step)
			}
			cfg := model.DefaultMeshConfig()
			mesh, _ := compile.Mesh(store.Snapshot(), &cfg, registry(r, nil), nil)
			for _, p := range proxies() {
				p.Stock = true
				if err := story.Validate(envoy, t.TempDir(), model.NewView(p, mesh)); err != nil {
					t.Errorf("%s: %v", p.Name, err)
				}
			}
		})
	}
}
