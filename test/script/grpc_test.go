//go:build linux

package script_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mallamesh/malla/test/script/mesh"
)

// envCall makes this program a gRPC client: it makes calls to that address, over one
// connection, and prints a line for each.
const envCall = "MALLA_TEST_CALL"

const calls = 20

func callServer(target string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for range calls {
		r, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(r.GetStatus())
	}
}

const greeter = `
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec: {selector: {app: greeter}, ports: [{name: grpc, port: 50051}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: greeter}
spec:
  replicas: 2
  selector: {matchLabels: {app: greeter}}
  template:
    metadata: {labels: {app: greeter}}
    spec:
      containers:
      - name: app
        image: example.com/health
        ports: [{containerPort: 50051}]
        env: [{name: MALLA_TEST_HEALTH, value: "1"}]
---
apiVersion: v1
kind: Pod
metadata: {name: caller, labels: {app: caller}}
spec:
  containers:
  - {name: app, image: example.com/health, env: [{name: MALLA_TEST_HEALTH, value: "1"}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: door}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: grpc, protocol: GRPC}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: door}
spec: {hosts: ["*"], gateways: [door], http: [{route: [{destination: {host: greeter, port: {number: 50051}}}]}]}
`

// TestGRPC: a call is routed and balanced by itself, whatever connection it comes by.
func TestGRPC(t *testing.T) {
	linux(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "greeter.yaml"), greeter)
	m := mesh.Up(t, mesh.Options{Name: "grpc", Paths: []string{dir}, Flags: []string{"--inject", "--image", healthImage(t)}})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	call := func(target string) string {
		return m.Exec("caller", "app", "env", envCall+"="+target, self).Out
	}
	t.Run("over one connection of the client, to all hosts", func(t *testing.T) {
		if got := call("greeter:50051"); got != strings.Repeat("SERVING\n", calls) {
			t.Fatalf("the calls said\n%s", got)
		}
		for _, pod := range m.Pods("app=greeter") {
			m.LogLine("app=greeter", "istio-proxy", []string{`"POST /grpc.health.v1.Health/Check HTTP/2" 200`, "inbound|50051||", m.Field("pod/"+pod, ".status.podIP") + ":50051"})
		}
		m.LogLine("app=caller", "istio-proxy", []string{`"POST /grpc.health.v1.Health/Check HTTP/2" 200`, "outbound|50051||greeter.default.svc.cluster.local"})
	})
	t.Run("through the gateway", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, err := grpc.NewClient(fmt.Sprintf("127.0.0.1:%d", m.Port(80)), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
			t.Errorf("a call through the gateway: %v", err)
		}
	})
	t.Run("rules for HTTP hold", func(t *testing.T) {
		m.Apply(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec: {hosts: [greeter], http: [{fault: {abort: {percentage: {value: 100}, grpcStatus: RESOURCE_EXHAUSTED}}, route: [{destination: {host: greeter}}]}]}`)
		mesh.Until(t, 5*time.Second, "the fault is in force", func() error {
			if got := call("greeter:50051"); !strings.Contains(got, "code = ResourceExhausted desc = fault filter abort") {
				return fmt.Errorf("the calls said %q", got)
			}
			return nil
		})
	})
}
