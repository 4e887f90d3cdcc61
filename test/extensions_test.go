package test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the list of Envoy's extensions")

const extensions = "../config/envoyfilter/types.go"

// TestPatchesKnowWhatTheProxyKnows: the extensions of Envoy that an EnvoyFilter may name are
// those that the proxy links.
func TestPatchesKnowWhatTheProxyKnows(t *testing.T) {
	var list []string
	for _, d := range packages(t, "./cmd/malla-proxy")[0].Deps {
		if strings.Contains(d, "/go-control-plane/") && strings.Contains(d, "/extensions/") {
			list = append(list, "\t_ \""+d+"\"\n")
		}
	}
	slices.Sort(list)
	have, err := os.ReadFile(extensions)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(have), "import (\n")
	want := head + "import (\n" + strings.Join(list, "") + ")\n"
	if *update {
		if err := os.WriteFile(extensions, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(have) != want {
		t.Error("config/envoyfilter/types.go is not what the proxy links; run: go test ./test -run Patches -update")
	}
}
