//go:build linux

package envoy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/test/process"
	"github.com/mallamesh/malla/test/script/mesh"
)

// TestEnvoyJoinsTheMesh runs a real Envoy in the control plane's pod, with the
// node of one of the mesh's sidecars (or of its gateway), and asks both sides
// whether anything was refused.
func TestEnvoyJoinsTheMesh(t *testing.T) {
	envoy := process.Envoy(t)
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		process.Skip(t, "nsenter is missing: install util-linux")
	}
	for _, sample := range []struct {
		name  string
		paths []string
		pods  []string // selectors of the pods whose node is taken
		rules []string // applied before
	}{
		{"bookinfo", []string{"bookinfo"}, []string{"app=productpage", "app=ratingsdb", "app=reviews,version=v1"},
			[]string{"bookinfo/tasks/all-v1.yaml", "bookinfo/tasks/ratings-delay.yaml", "bookinfo/tasks/reviews-mirror.yaml", "bookinfo/tasks/egress-host.yaml", "bookinfo/tasks/tcp-shift.yaml"}},
		{"httpbin", []string{"httpbin", "sleep", "tcp-echo"}, []string{"app=httpbin", "app=sleep", "app=tcp-echo,version=v1"},
			[]string{"bookinfo/tasks/circuit-breaker.yaml", "tcp-echo/tcp-echo-20-v2.yaml"}},
		{"hello", []string{"hello"}, []string{"app=nginx", "app=hello,version=v1"},
			[]string{"hello/rules/version-header.yaml", "hello/rules/abort-10.yaml"}},
	} {
		t.Run(sample.name, func(t *testing.T) {
			var paths []string
			for _, p := range sample.paths {
				paths = append(paths, mesh.Samples(t, p))
			}
			m := mesh.Up(t, mesh.Options{Name: "envoy", Paths: paths, Flags: []string{"--inject"}, Publish: []int{80, 31400}})
			for _, r := range sample.rules {
				m.Must("apply", "-f", mesh.Samples(t, r))
			}
			istiod := 0
			for _, p := range m.Tree() {
				if p.Is("control", "run") {
					istiod = p.PID
				}
			}
			if istiod == 0 {
				t.Fatalf("no control plane in %v", m.Tree())
			}
			enter := []string{nsenter, "-t", strconv.Itoa(istiod), "-U", "-n", "--preserve-credentials"}
			nodes := []node{gatewayNode(t, m)}
			for _, selector := range sample.pods {
				nodes = append(nodes, sidecarNode(t, m, selector))
			}
			for _, api := range []string{"DELTA_GRPC", "GRPC"} {
				for _, n := range nodes {
					t.Run(n.Type+" "+n.Workload+" "+api, func(t *testing.T) { n.join(t, m, envoy, enter, api) })
				}
			}
		})
	}
}

// A node is who an Envoy says it is.
type node struct {
	Type, IP, Pod, Namespace, Workload string
	Labels                             map[string]string
	Account                            string
}

func sidecarNode(t *testing.T, m *mesh.Mesh, selector string) node {
	t.Helper()
	return nodeOf(t, m, "sidecar", selector, "default")
}

func gatewayNode(t *testing.T, m *mesh.Mesh) node {
	t.Helper()
	return nodeOf(t, m, "router", "istio=ingressgateway", "istio-system")
}

func nodeOf(t *testing.T, m *mesh.Mesh, typ, selector, namespace string) node {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
			Spec   struct{ ServiceAccountName string }
			Status struct{ PodIP string }
		}
	}
	if err := json.Unmarshal([]byte(m.Must("get", "pods", "-n", namespace, "-l", selector, "-o", "json")), &list); err != nil || len(list.Items) == 0 {
		t.Fatalf("pods with %s: %v", selector, err)
	}
	p := list.Items[0]
	return node{typ, p.Status.PodIP, p.Metadata.Name, namespace, p.Metadata.Labels["app"], p.Metadata.Labels, p.Spec.ServiceAccountName}
}

func (n node) id() string {
	return fmt.Sprintf("%s~%s~%s-envoy.%s~%s.svc.cluster.local", n.Type, n.IP, n.Pod, n.Namespace, n.Namespace)
}

// join runs an Envoy as the node until it is ready, and looks for refusals.
func (n node) join(t *testing.T, m *mesh.Mesh, envoy string, enter []string, api string) {
	dir := t.TempDir()
	admin, sds := filepath.Join(dir, "admin"), filepath.Join(dir, "sds")
	serveSecrets(t, sds)
	metadata, err := json.Marshal(map[string]any{
		"MALLA_PROFILE": "stock", "NAMESPACE": n.Namespace, "NAME": n.Pod, "SERVICE_ACCOUNT": n.Account, "LABELS": n.Labels,
		"INSTANCE_IPS": n.IP, "CLUSTER_ID": "Kubernetes", "INTERCEPTION_MODE": "REDIRECT",
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", "ads.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "ads.yaml")
	filled := fill(string(text), map[string]string{"id": n.id(), "metadata": string(metadata), "api": api, "admin": admin, "sds": sds})
	if err := os.WriteFile(config, []byte(filled), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{}, enter[1:]...), envoy, "-c", config, "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning")
	run := start(t, enter[0], args...)
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", admin)
	}}}
	ask := func(path string) (string, error) {
		resp, err := c.Get("http://envoy" + path)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	mesh.Until(t, 30*time.Second, "a live Envoy with listeners", func() error {
		select {
		case <-run.Done:
			t.Fatalf("Envoy has ended:\n%s", run.Log())
		default:
		}
		text, err := ask("/ready")
		if err == nil && strings.TrimSpace(text) != "LIVE" {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	stats := map[string]int{}
	mesh.Until(t, 10*time.Second, "nothing warming", func() error {
		text, err := ask("/stats")
		if err != nil {
			return err
		}
		for _, l := range strings.Split(text, "\n") {
			name, value, ok := strings.Cut(l, ": ")
			if v, err := strconv.Atoi(value); ok && err == nil {
				stats[name] = v
			}
		}
		if w := stats["cluster_manager.warming_clusters"] + stats["listener_manager.total_listeners_warming"]; w > 0 {
			return fmt.Errorf("%d clusters and listeners are warming", w)
		}
		return nil
	})
	for name, v := range stats {
		if strings.HasSuffix(name, "update_rejected") && v > 0 {
			t.Errorf("%s: %d", name, v)
		}
	}
	if stats["cluster_manager.cds.update_success"] == 0 || stats["listener_manager.lds.update_success"] == 0 || stats["cluster_manager.active_clusters"] < 5 {
		t.Errorf("Envoy has %d clusters, %d answers for clusters and %d for listeners", stats["cluster_manager.active_clusters"],
			stats["cluster_manager.cds.update_success"], stats["listener_manager.lds.update_success"])
	}
	if text := run.Log(); strings.Contains(text, "rejected") {
		t.Errorf("Envoy has refused something:\n%s", text)
	}
	n.asControlPlaneSees(t, m, api)
	// Names are Istio's on a real Envoy as well. (/config_dump would fail: Envoy
	// cannot print the optional filters that it does not have.)
	listeners, _ := ask("/listeners")
	clusters, _ := ask("/clusters")
	names := []string{"virtualInbound::", "virtualOutbound::", "BlackHoleCluster::", "PassthroughCluster::", "InboundPassthroughCluster::", "outbound|15012||istiod.istio-system.svc.cluster.local::"}
	if n.Type == "router" {
		names = []string{"0.0.0.0_8080::"}
	}
	for _, name := range names {
		if !strings.Contains(listeners+clusters, name) {
			t.Errorf("Envoy lacks %s:\n%s", name, listeners)
		}
	}
}

// asControlPlaneSees reads the control plane's own list: this client, every type
// in force, no NACK.
func (n node) asControlPlaneSees(t *testing.T, m *mesh.Mesh, api string) {
	t.Helper()
	mesh.Until(t, 5*time.Second, "the control plane's row of "+n.id(), func() error {
		r := m.ExecIn("istio-system", "deploy/istiod", "discovery", "/malla", "sample", "curl", "-sS", "localhost:15014/debug/adsz")
		var rows []struct {
			Node  string
			Types map[string]struct {
				State     string
				Resources int
				Nack      json.RawMessage
			}
		}
		if err := json.Unmarshal([]byte(r.Out), &rows); err != nil {
			return fmt.Errorf("%w: %s", err, r)
		}
		for _, row := range rows {
			if row.Node != n.id() {
				continue
			}
			for typ, s := range row.Types {
				if s.State != "SYNCED" || len(s.Nack) > 0 && string(s.Nack) != "null" {
					return fmt.Errorf("%s is %s, NACK %s", typ, s.State, s.Nack)
				}
			}
			if len(row.Types) < 3 {
				return fmt.Errorf("types %v", row.Types)
			}
			return nil
		}
		return fmt.Errorf("not among %d clients", len(rows))
	})
}

// serveSecrets is the agent's part: certificates by the names that Istio uses.
func serveSecrets(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	secretv3.RegisterSecretDiscoveryServiceServer(s, newSecrets(t))
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
}

type secrets struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	byName map[string]*tlsv3.Secret
}

func newSecrets(t *testing.T) *secrets {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := url.Parse("spiffe://cluster.local/ns/default/sa/default")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"test"}}, URIs: []*url.URL{id},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	inline := func(kind string, der []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})}}
	}
	return &secrets{byName: map[string]*tlsv3.Secret{
		"default": {Name: "default", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline("CERTIFICATE", der), PrivateKey: inline("PRIVATE KEY", keyDER)}}},
		"ROOTCA": {Name: "ROOTCA", Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline("CERTIFICATE", der)}}},
	}}
}

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

func pack(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err) // our own constants
	}
	return a
}

// StreamSecrets answers the state-of-the-world form.
func (s *secrets) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if req.GetResponseNonce() != "" {
			continue // an answer
		}
		resp := &discoveryv3.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: secretType}
		for _, name := range req.GetResourceNames() {
			if secret, ok := s.byName[name]; ok {
				resp.Resources = append(resp.Resources, pack(secret))
			}
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// DeltaSecrets answers the incremental form.
func (s *secrets) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if len(req.GetResourceNamesSubscribe()) == 0 {
			continue // an answer
		}
		resp := &discoveryv3.DeltaDiscoveryResponse{Nonce: "1", TypeUrl: secretType}
		for _, name := range req.GetResourceNamesSubscribe() {
			if secret, ok := s.byName[name]; ok {
				resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: name, Version: "1", Resource: pack(secret)})
			}
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}
