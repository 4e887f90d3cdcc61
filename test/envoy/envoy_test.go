//go:build linux

// Package envoy_test holds malla against the real Envoy.
//
// It asks two things. Does a real Envoy, as an ADS client of our control plane in
// a running mesh, accept everything that we make for a sidecar's and a gateway's
// node? And does malla-proxy do with the same configuration and the same bytes
// what Envoy does: answers, headers, what the upstream sees, access-log lines?
// Where it does not on purpose, the scenario says so and why.
//
// The real Envoy is found as $MALLA_ENVOY, as .cache/envoy/bin/envoy (make test
// puts it there), or on PATH; without one the tests skip, but never with CI=true.
package envoy_test

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(atOnce)); err != nil {
		panic(err)
	}
	code := m.Run()
	if *tellSpent {
		spent.tell(os.Stderr)
	}
	mesh.RemoveBinary()
	process.Clean()
	os.Exit(code)
}

// start runs a program until the test ends.
func start(t *testing.T, name string, args ...string) *process.Process {
	t.Helper()
	var p *process.Process
	t.Cleanup(func() { // after the process has ended
		if p != nil {
			spent.process(name, "in play", p.Cmd.ProcessState)
		}
	})
	p = process.Start(t, name, args...)
	return p
}

// fill replaces {{name}} in a text.
func fill(text string, values map[string]string) string {
	for k, v := range values {
		text = strings.ReplaceAll(text, "{{"+k+"}}", v)
	}
	return text
}
