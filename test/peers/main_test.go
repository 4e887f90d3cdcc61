package peers

import (
	"os"
	"testing"

	"github.com/mallamesh/malla/test/process"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(interopCase); name != "" {
		os.Exit(interop(name))
	}
	code := m.Run()
	process.Clean()
	os.Exit(code)
}
