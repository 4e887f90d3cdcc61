package mesh

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mallamesh/malla/base/field"
)

// The settings of one proxy are judged as defaultConfig is.
func TestParseProxy(t *testing.T) {
	at := field.At("metadata", "annotations", ProxyAnnotation)
	for _, test := range []struct {
		text string
		want string // the first error
	}{
		{"", ""},
		{"concurrency: 2\nproxyMetadata: {A: b}\ndrainDuration: 5s", ""},
		{"concurrency: 300", `metadata.annotations["proxy.istio.io/config"].concurrency: found 300, want 0 (as many as the machine has processors) to 256`},
		{"drainDuraton: 5s", `metadata.annotations["proxy.istio.io/config"].drainDuraton: unknown field; did you mean drainDuration?`},
		{"statusPort: 15021", `metadata.annotations["proxy.istio.io/config"].statusPort: found 15021, want 15020, or a port that is none of the proxies' own ([15000 15004 15008 15020 15021 15053 15090])`},
		{"gatewayTopology: {numTrustedProxies: 1}", ""},
		{"readinessProbe: {periodSeconds: 1}", `metadata.annotations["proxy.istio.io/config"].readinessProbe: says nothing; want httpGet, tcpSocket, exec or grpc`},
		{"- a", `metadata.annotations["proxy.istio.io/config"]: found a list, want an object with fields such as ` + "availabilityZone, binaryPath, caCertificatesPem"},
	} {
		_, errs, _ := ParseProxy(test.text, at)
		got := ""
		if len(errs) > 0 {
			got = errs[0].Error()
		}
		if got != test.want {
			t.Errorf("%q:\nfound %s\nwant  %s", test.text, got, test.want)
		}
	}
	_, errs, notices := ParseProxy("statNameLength: 80", at)
	if len(errs) > 0 || len(notices) != 1 {
		t.Errorf("a field without effect: %v, %d notices", errs, len(notices))
	}
}

// A named setting replaces the mesh's; only proxyMetadata is laid over.
func TestMergeProxy(t *testing.T) {
	base := map[string]any{"concurrency": 1.0, "drainDuration": "45s", "proxyMetadata": map[string]any{"A": "mesh", "B": "mesh"},
		"proxyStatsMatcher": map[string]any{"inclusionPrefixes": []any{"x"}}}
	over := map[string]any{"concurrency": 2.0, "proxyMetadata": map[string]any{"B": "pod", "C": "pod"},
		"proxyStatsMatcher": map[string]any{"inclusionSuffixes": []any{"y"}}}
	want := map[string]any{"concurrency": 2.0, "drainDuration": "45s", "proxyMetadata": map[string]any{"A": "mesh", "B": "pod", "C": "pod"},
		"proxyStatsMatcher": map[string]any{"inclusionSuffixes": []any{"y"}}}
	if d := cmp.Diff(want, MergeProxy(base, over)); d != "" {
		t.Error(d)
	}
	if base["proxyMetadata"].(map[string]any)["B"] != "mesh" {
		t.Error("the mesh's own settings were written to")
	}
}
