//go:build linux

package script_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/mallamesh/malla/test/script/mesh"
)

// envHealth makes this program a gRPC server with a health service on port 50051:
// the application in a pod.
const envHealth = "MALLA_TEST_HEALTH"

// A health knows the services "" and "shop". The latter is well unless /tmp/sick is
// there.
type health struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (health) Check(_ context.Context, q *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	state := grpc_health_v1.HealthCheckResponse_SERVING
	switch q.GetService() {
	case "":
	case "shop":
		if _, err := os.Stat("/tmp/sick"); err == nil {
			state = grpc_health_v1.HealthCheckResponse_NOT_SERVING
		}
	default:
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: state}, nil
}

func healthServer() {
	l, err := net.Listen("tcp", ":50051")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, health{})
	fmt.Fprintln(os.Stderr, s.Serve(l))
}

// healthImage is the flag of up that makes this program an image.
func healthImage(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return "example.com/health=" + self
}

// A gRPC probe asks for a service's health: the pod is ready as long as that says
// so, and leaves its Service when it does not.
func grpcProbe(t *testing.T, m *mesh.Mesh) {
	pod := m.Pod("app=healthy")
	ready := func(want string) {
		t.Helper()
		mesh.Until(t, 10*time.Second, "ready: "+want, func() error {
			pods := m.Field("pod/"+pod, `.status.conditions[?(@.type=="Ready")].status`)
			endpoint := m.Must("get", "endpointslices", "-l", "kubernetes.io/service-name=healthy", "-o", "jsonpath={.items[*].endpoints[*].conditions.ready}")
			if (pods == "True") != (want == "true") || endpoint != want {
				return fmt.Errorf("pod %s, endpoint %s", pods, endpoint)
			}
			return nil
		})
	}
	ready("true")
	m.Exec(pod, "app", "touch", "/tmp/sick")
	ready("false")
	words(t, "describe", m.Must("describe", "pod", pod), "Readiness probe failed: service is NOT_SERVING")
	m.Exec(pod, "app", "rm", "/tmp/sick")
	ready("true")
	if n := m.Field("pod/"+pod, ".status.containerStatuses[0].restartCount"); n != "0" {
		t.Errorf("%s restarts: the liveness probe asks for another service", n)
	}
}
