package mesh

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/source/memory"
	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

func TestParse(t *testing.T) {
	base := model.DefaultMeshConfig()
	base.AccessLogFile = "/dev/stdout" // as `malla up` has it
	six := uint32(6)
	for _, test := range []struct {
		name, text string
		want       func(m *model.MeshConfig)
	}{
		{"nothing written leaves the base", "", func(m *model.MeshConfig) {}},
		{"comments only", "# nothing\n", func(m *model.MeshConfig) {}},
		{"an empty text is something written", `accessLogFile: ""`, func(m *model.MeshConfig) { m.AccessLogFile = "" }},
		{"the access log", "accessLogFile: /tmp/log\naccessLogFormat: '{}'\naccessLogEncoding: JSON", func(m *model.MeshConfig) {
			m.AccessLogFile, m.AccessLogFormat, m.AccessLogEncoding = "/tmp/log", "{}", model.LogJSON
		}},
		{"traffic outside", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}", func(m *model.MeshConfig) { m.Outbound = model.RegistryOnly }},
		{"REGISTRY_ONLY is also the enum's zero", "outboundTrafficPolicy: {}", func(m *model.MeshConfig) { m.Outbound = model.RegistryOnly }},
		{"traffic inside", "inboundTrafficPolicy: {mode: LOCALHOST}", func(m *model.MeshConfig) { m.Inbound = model.InboundLocalhost }},
		{"mutual TLS", "enableAutoMtls: false\ntrustDomain: example.org\ntrustDomainAliases: [b.org, a.org]", func(m *model.MeshConfig) {
			m.AutoMTLS, m.TrustDomain, m.TrustDomainAliases = false, "example.org", []string{"a.org", "b.org"}
		}},
		{"times", "connectTimeout: 3s\nprotocolDetectionTimeout: 100ms\ndnsRefreshRate: 5s\ntcpKeepalive: {time: 1h, interval: 75s, probes: 3}", func(m *model.MeshConfig) {
			m.ConnectTimeout, m.DetectionTimeout, m.DNSRefresh = 3*time.Second, 100*time.Millisecond, 5*time.Second
			m.Keepalive = &model.Keepalive{Probes: 3, Time: time.Hour, Interval: 75 * time.Second}
		}},
		{"who sees what", "defaultServiceExportTo: [.]\ndefaultVirtualServiceExportTo: [b, a]\ndefaultDestinationRuleExportTo: ['*']\nrootNamespace: root", func(m *model.MeshConfig) {
			m.ServiceExportTo, m.RulesExportTo, m.DestinationExportTo, m.RootNamespace = model.ExportTo{"."}, model.ExportTo{"a", "b"}, model.ExportTo{"*"}, "root"
		}},
		{"retries", "defaultHttpRetryPolicy: {attempts: 0}", func(m *model.MeshConfig) { m.Retry = &model.Retry{} }},
		{"retries in full", "defaultHttpRetryPolicy: {attempts: 3, perTryTimeout: 1s, retryOn: cancelled, backoff: 10ms, retryIgnorePreviousHosts: false}", func(m *model.MeshConfig) {
			m.Retry = &model.Retry{Attempts: 3, PerTry: time.Second, On: "cancelled", Backoff: 10 * time.Millisecond, AvoidPrevious: new(bool)}
		}},
		{"paths", "pathNormalization: {normalization: MERGE_SLASHES}", func(m *model.MeshConfig) { m.Paths = model.MergeSlashes }},
		{"the default of paths", "pathNormalization: {normalization: DEFAULT}", func(m *model.MeshConfig) {}},
		{"TLS", "meshMTLS: {minProtocolVersion: TLSV1_3}\ntlsDefaults: {cipherSuites: [AES128-SHA], ecdhCurves: [P-256]}\nverifyCertificateAtClient: false", func(m *model.MeshConfig) {
			m.MeshTLS, m.OtherTLS, m.TrustUnnamed = model.TLSRange{OnlyTLS13: true}, model.TLSRange{Ciphers: []string{"AES128-SHA"}, Curves: []string{"P-256"}}, true
		}},
		{"settings of services", "serviceSettings: [{settings: {clusterLocal: true}, hosts: [a.b]}]", func(m *model.MeshConfig) {
			m.ClusterLocal = []model.ClusterLocal{{Hosts: []string{"a.b"}, Local: true}}
		}},
		{"which namespaces", "discoverySelectors: [{matchLabels: {a: b}}, {matchExpressions: [{key: c, operator: In, values: [d]}]}]", func(m *model.MeshConfig) {
			m.Discovery = []model.LabelSelector{{Labels: map[string]string{"a": "b"}}, {Rules: []model.LabelRule{{Key: "c", Operator: "In", Values: []string{"d"}}}}}
		}},
		{"names of statistics", "inboundClusterStatName: '%SERVICE%_x'\noutboundClusterStatName: '%SUBSET_NAME%'", func(m *model.MeshConfig) { m.InboundStats, m.OutboundStats = "%SERVICE%_x", "%SUBSET_NAME%" }},
		{"what stands before gateways", "defaultConfig: {gatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: FORWARD_ONLY}}", func(m *model.MeshConfig) {
			m.Proxies.Topology = &model.Topology{TrustedProxies: 2, ClientCert: model.CertForwardOnly}
		}},
		{"policy for all", "defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 5}, http: {maxRetries: 2}}, outlierDetection: {consecutive5xxErrors: 6, interval: 1m}}", func(m *model.MeshConfig) {
			m.Pool = &model.ConnectionPool{MaxConnections: 5, MaxRetries: 2}
			m.Outlier = &model.OutlierDetection{Consecutive5xx: &six, Interval: time.Minute}
		}},
		{"ports", "proxyListenPort: 16001\nproxyInboundListenPort: 15001", func(m *model.MeshConfig) { m.OutboundPort, m.InboundPort = 16001, 15001 }},
		{"the proxies", "enablePrometheusMerge: false\ndefaultConfig: {drainDuration: 1s, terminationDrainDuration: 2s, discoveryAddress: x:1, concurrency: 2, proxyMetadata: {A: b}, proxyStatsMatcher: {inclusionPrefixes: [b, a], inclusionRegexps: ['.*']}}", func(m *model.MeshConfig) {
			m.EnablePrometheusMerge, m.ProxyMetadata = false, map[string]string{"A": "b"} // the rest is the injector's
		}},
	} {
		want := base
		test.want(&want)
		got, errs, notices := Parse(test.text, base, nil)
		if len(errs)+len(notices) > 0 {
			t.Errorf("%s: errors %v, notices %v", test.name, errs, notices)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", test.name, diff)
		}
	}
}

// A wrong field keeps its value of before; the right ones beside it count.
func TestWrong(t *testing.T) {
	base := model.DefaultMeshConfig()
	for _, test := range []struct{ text, want string }{
		{"connectTimeout: -1s", "mesh.connectTimeout: found -1s, want 1ms to 1h0m0s"},
		{"tlsDefaults: {cipherSuites: [RC4]}", `mesh.tlsDefaults.cipherSuites: found "RC4", want one of ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256, ` +
			`ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, ECDHE-ECDSA-CHACHA20-POLY1305, ECDHE-RSA-CHACHA20-POLY1305, ECDHE-ECDSA-AES128-SHA, ` +
			`ECDHE-RSA-AES128-SHA, ECDHE-ECDSA-AES256-SHA, ECDHE-RSA-AES256-SHA, AES128-GCM-SHA256, AES256-GCM-SHA384, AES128-SHA, AES256-SHA, DES-CBC3-SHA`},
		{"inboundClusterStatName: '%NAME%'", `mesh.inboundClusterStatName: found "%NAME%", want a text with words such as %SERVICE%, %SERVICE_FQDN%, %SERVICE_PORT%, %SERVICE_PORT_NAME%, %SUBSET_NAME%, %TARGET_PORT%`},
		{"connectTimout: 1s", "mesh.connectTimout: unknown field; did you mean connectTimeout?"},
		{"proxyListenPort: 15020", "mesh.proxyListenPort: found 15020, want a port that is none of the proxies' own ([15000 15004 15008 15020 15021 15053 15090])"},
		{"proxyInboundListenPort: 0", "mesh.proxyInboundListenPort: found 0, want a port that is none of the proxies' own ([15000 15004 15008 15020 15021 15053 15090])"},
		{"proxyListenPort: 15006", "mesh.proxyListenPort: found 15006, which is proxyInboundListenPort; want another port"},
		{"proxyListenPort: 15001", ""},
		{"- a", "mesh: found a list, want an object with fields such as accessLogEncoding, accessLogFile, accessLogFormat"},
		{"a: [", "mesh: yaml: line 1: did not find expected node content"},
		{"trustDomain: a\ntrustDomain: b", `mesh: yaml: unmarshal errors:` + "\n  " + `line 2: key "trustDomain" already set in map`},
		{"rootNamespace: A B", `mesh.rootNamespace: found "A B", want a namespace: small letters, digits and dashes`},
	} {
		m, errs, _ := Parse(test.text+"\n", base, field.At("mesh"))
		got := ""
		if len(errs) > 0 {
			got = errs[0].Error()
		}
		if got != test.want {
			t.Errorf("%q:\nfound %s\nwant  %s", test.text, got, test.want)
		}
		if len(errs) > 0 && cmp.Diff(base, m) != "" {
			t.Errorf("%q: the base was changed", test.text)
		}
	}
	m, errs, _ := Parse("nothing: 1\naccessLogFile: /x\n", base, nil)
	if len(errs) != 1 || m.AccessLogFile != "/x" {
		t.Errorf("a wrong field beside a right one: %v, access log %q", errs, m.AccessLogFile)
	}
}

// So many certificates of authorities as no ConfigMap holds could not be told to sidecars.
func TestTooManyAnchors(t *testing.T) {
	ca, err := pki.NewCA("partner.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	root := ca.RootPEM()
	text := func(n int) string {
		return "caCertificates:\n- pem: " + strconv.Quote(strings.Repeat(string(root), n)) + "\n"
	}
	fit := maxAnchors / len(root)
	if m, errs, _ := Parse(text(fit), model.DefaultMeshConfig(), nil); len(errs) > 0 || len(m.TrustAnchors) != fit {
		t.Errorf("%d certificates: %d are read, %v", fit, len(m.TrustAnchors), errs)
	}
	m, errs, _ := Parse(text(fit+1), model.DefaultMeshConfig(), nil)
	want := fmt.Sprintf("caCertificates: found %d bytes of certificates, want at most 524288: every namespace has a ConfigMap with all of them", (fit+1)*len(root))
	if len(errs) != 1 || errs[0].Error() != want || m.TrustAnchors != nil {
		t.Errorf("%d certificates: %d are read, %v, want %s", fit+1, len(m.TrustAnchors), errs, want)
	}
}

// Selectors of namespaces that are wrong select nothing, and never every namespace.
func TestWrongSelectors(t *testing.T) {
	const wrong = `{matchExpressions: [{key: a, operator: Is}]}`
	for _, test := range []struct {
		text       string
		in, others bool // whether a namespace with a=b is in, and one without labels
	}{
		{"[" + wrong + "]", false, false},
		{"[" + wrong + ", {matchLabels: {a: b}}]", true, false},
	} {
		m, errs, _ := Parse("discoverySelectors: "+test.text, model.DefaultMeshConfig(), field.At("mesh"))
		if len(errs) != 1 || errs[0].Error() != `mesh.discoverySelectors: element 0: found the operator "Is", want In, NotIn, Exists or DoesNotExist` {
			t.Errorf("%s: found %v", test.text, errs)
		}
		if in, out := m.Discovers("x", map[string]string{"a": "b"}), m.Discovers("x", nil); in != test.in || out != test.others {
			t.Errorf("%s: discovers a=b %t, others %t", test.text, in, out)
		}
	}
}

func TestOf(t *testing.T) {
	base := model.DefaultMeshConfig()
	s := memory.New()
	if m, from, _ := Of(s.Snapshot(), "istio-system", "", base); from != nil || cmp.Diff(base, *m) != "" {
		t.Error("without a ConfigMap it must be the base")
	}
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, namespace: istio-system}\ndata: {mesh: 'accessLogFile: /NAME'}\n"
	for _, name := range []string{"istio", "malla"} { // malla beats istio
		if err := s.PutYAML(strings.ReplaceAll(text, "NAME", name)); err != nil {
			t.Fatal(err)
		}
		if m, from, errs := Of(s.Snapshot(), "istio-system", "", base); m.AccessLogFile != "/"+name || from.Name != name || len(errs) > 0 {
			t.Errorf("%s: found %q of %v, %v", name, m.AccessLogFile, from, errs)
		}
	}
	if _, from, _ := Of(s.Snapshot(), "elsewhere", "", base); from != nil {
		t.Error("a ConfigMap of another namespace does not count")
	}
}

// What SHARED_MESH_CONFIG names says what the mesh's own settings leave open, down to single fields; a mistake in it is its own.
func TestSharedSettings(t *testing.T) {
	base := model.DefaultMeshConfig()
	s := memory.New()
	put := func(name, text string) {
		t.Helper()
		if err := s.PutYAML(fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: istio-system}\ndata: {mesh: %q}\n", name, text)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(wantFrom, wantFile string, wantDomain string, wantErrs int) {
		t.Helper()
		m, from, errs := Of(s.Snapshot(), "istio-system", "ours", base)
		if from.Name != wantFrom || m.AccessLogFile != wantFile || m.TrustDomain != wantDomain || len(errs) != wantErrs {
			t.Errorf("of %s: log %q, domain %q, %v; want of %s: %q, %q, %d errors", from.Name, m.AccessLogFile, m.TrustDomain, errs, wantFrom, wantFile, wantDomain, wantErrs)
		}
	}
	put("ours", "accessLogFile: /shared\ntrustDomain: shared.example")
	check("ours", "/shared", "shared.example", 0)
	put("istio", "accessLogFile: /own")
	check("istio", "/own", "shared.example", 0)
	put("istio", "trustDomain: own.example")
	check("istio", "/shared", "own.example", 0)
	put("ours", "accessLogFile: 1")
	check("ours", "", "cluster.local", 1)
	for _, test := range []struct{ own, below, want string }{
		{"a: {b: 1}", "a: {b: 2, c: 3}\nd: 4", "a:\n  b: 1\n  c: 3\nd: 4\n"},
		{"a: [1]", "a: [2, 3]", "a:\n- 1\n"},
		{"a: 1", "", "a: 1"},
		{"a: [", "b: 1", "a: ["},
		{"a: 1", "b: [", "a: 1"},
	} {
		if got := Over(test.own, test.below); got != test.want {
			t.Errorf("%q over %q: %q, want %q", test.own, test.below, got, test.want)
		}
	}
}
