// Package probe asks a program whether it can do its work, in the ways of Kubernetes' probes: by a request
// over HTTP, by gRPC's health protocol, by connecting; and, again and again, with [Watch], by anything.
//
// How connections are made and commands are run is the caller's; what follows from an answer, too.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// A Dial makes connections.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// A Header is one header field of a request.
type Header struct{ Name, Value string }

// HTTP is a request to ask by.
type HTTP struct {
	Agent   string // who asks
	TLS     bool   // whoever answers, with whatever certificate
	Address string // host:port
	Path    string
	Headers []Header
}

// MaxSaid bounds what is repeated of an answer.
const MaxSaid = 200

// String is the request for people.
func (h *HTTP) String() string {
	var out strings.Builder
	out.WriteString("GET " + h.url())
	for _, header := range h.Headers {
		out.WriteString(" " + header.Name + ": " + header.Value)
	}
	return out.String()
}

func (h *HTTP) url() string {
	scheme := "http"
	if h.TLS {
		scheme = "https"
	}
	return scheme + "://" + h.Address + "/" + strings.TrimPrefix(h.Path, "/")
}

// Ask makes the request and returns the status, and what the answer says in a form to be appended
// to it. As for the kubelet, redirects are followed on the same host.
func (h *HTTP) Ask(ctx context.Context, dial Dial) (code int, said string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url(), nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", h.Agent)
	req.Header.Set("Accept", "*/*")
	for _, header := range h.Headers {
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
			continue
		}
		req.Header.Add(header.Name, header.Value)
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: dial,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} // as the kubelet: a probe asks whether it answers, not who
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", plain(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 10<<10))
	if line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n"); line != "" && utf8.ValidString(line) {
		said = ": " + line[:min(len(line), MaxSaid)]
	}
	return resp.StatusCode, said, nil
}

// Try makes the request and returns why its answer is no success, if it is none.
func (h *HTTP) Try(ctx context.Context, dial Dial) error {
	code, said, err := h.Ask(ctx, dial)
	if err == nil && (code < 200 || code >= 400) {
		err = fmt.Errorf("HTTP probe failed with statuscode: %d%s", code, said)
	}
	return err
}

func sameHost(req *http.Request, via []*http.Request) error {
	switch {
	case req.URL.Hostname() != via[0].URL.Hostname():
		return http.ErrUseLastResponse
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// plain says an error without what changes from try to try (the port that was
// dialed from), so that it counts as the same.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op != "dial" && op.Source != nil {
		where := ""
		if op.Addr != nil {
			where = " " + op.Addr.String()
		}
		return fmt.Errorf("%s %s%s: %w", op.Op, op.Net, where, op.Err)
	}
	return err
}

// TCP connects.
func TCP(ctx context.Context, dial Dial, address string) error {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// GRPC asks for the health of a service; empty is the server's own.
func GRPC(ctx context.Context, dial Dial, address, service string) error {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
	if status.Code(err) == codes.Unimplemented {
		return errors.New("this server does not implement the grpc health protocol (grpc.health.v1.Health)")
	}
	if err != nil {
		return err
	}
	if resp.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("service is %s", resp.GetStatus())
	}
	return nil
}
