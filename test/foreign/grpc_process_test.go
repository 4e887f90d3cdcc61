package foreign

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
)

// What makes this program a gRPC server or client; the values are below.
const (
	envServer = "MALLA_TEST_GRPC_SERVER" // its name
	envListen = "MALLA_TEST_GRPC_LISTEN" // host:port, if the listener is the control plane's to describe
	envFail   = "MALLA_TEST_GRPC_FAIL"   // every call fails
	envClient = "MALLA_TEST_GRPC_CLIENT" // target
)

// answer says in a header who it was, and over what.
func answer(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	over := "plain"
	if p, ok := peer.FromContext(ctx); ok {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok && t.SPIFFEID != nil {
			over = t.SPIFFEID.String()
		}
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("served-by", os.Getenv(envServer), "client", over)); err != nil {
		return nil, err
	}
	if os.Getenv(envFail) != "" {
		return nil, status.Error(codes.Unavailable, "out of order")
	}
	return next(ctx, req)
}

// serverMain serves health until its input ends, and prints its address first.
func serverMain() int {
	at := os.Getenv(envListen)
	l, err := net.Listen("tcp", first(at, "127.0.0.1:0"))
	if err != nil {
		return fail(err)
	}
	var s interface {
		grpc.ServiceRegistrar
		Serve(net.Listener) error
	}
	if at == "" {
		s = grpc.NewServer(grpc.UnaryInterceptor(answer))
	} else {
		creds, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
		if err != nil {
			return fail(err)
		}
		if s, err = xds.NewGRPCServer(grpc.Creds(creds), grpc.UnaryInterceptor(answer)); err != nil {
			return fail(err)
		}
	}
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return fail(s.Serve(l))
}

// clientMain makes as many calls as each line of its input says, and prints what they said, counted.
func clientMain() int {
	creds, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return fail(err)
	}
	c, err := grpc.NewClient(os.Getenv(envClient), grpc.WithTransportCredentials(creds))
	if err != nil {
		return fail(err)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, header, _ := strings.Cut(lines.Text(), " ")
		calls, err := strconv.Atoi(n)
		if err != nil {
			return fail(err)
		}
		counts := map[string]int{}
		for range calls {
			counts[call(c, header)]++
		}
		fmt.Println(counted(counts))
	}
	return 0
}

func call(c *grpc.ClientConn, header string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if key, value, ok := strings.Cut(header, "="); ok {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	var got metadata.MD
	_, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Header(&got))
	if err != nil {
		return strings.ReplaceAll(status.Code(err).String()+":"+status.Convert(err).Message(), " ", "_")
	}
	return got.Get("served-by")[0] + "/" + got.Get("client")[0]
}

// counted is what=number, sorted.
func counted(counts map[string]int) string {
	var out []string
	for what, n := range counts {
		out = append(out, fmt.Sprintf("%s=%d", what, n))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
