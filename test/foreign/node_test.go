package foreign

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// TestGRPCNode: what holds for grpc-go holds for gRPC's client in Node.
func TestGRPCNode(t *testing.T) {
	modules := filepath.Join(mesh.Root(t), ".cache", "node", "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "@grpc", "grpc-js-xds")); err != nil {
		process.Skip(t, "the package @grpc/grpc-js-xds is missing: scripts/tools installs it, or says how")
	}
	node := process.Tool(t, "node")
	rules(t, func(p *plane, target string) *line {
		return start(t, exec.Command(node, filepath.Join("testdata", "client.js")), envClient+"="+target, "NODE_PATH="+modules, "GRPC_XDS_BOOTSTRAP="+p.bootstrap("client", nil))
	})
}
