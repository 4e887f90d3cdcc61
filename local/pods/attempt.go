package pods

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/mallamesh/malla/local/sandbox"
)

// try makes one attempt within the probe's timeout.
func (c *container) try(ctx context.Context, b box, p *corev1.Probe) error {
	timeout := time.Second
	if p.TimeoutSeconds > 0 {
		timeout = time.Duration(p.TimeoutSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch h := p.ProbeHandler; {
	case h.HTTPGet != nil:
		code, said, err := c.get(ctx, b, h.HTTPGet)
		if err == nil && (code < 200 || code >= 400) {
			err = fmt.Errorf("HTTP probe failed with statuscode: %d%s", code, said)
		}
		return err
	case h.TCPSocket != nil:
		port, err := c.port(h.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := b.Dial(ctx, "tcp", net.JoinHostPort(c.host(h.TCPSocket.Host), port))
		if err != nil {
			return err
		}
		return conn.Close()
	case h.Exec != nil:
		return c.exec(ctx, b, h.Exec.Command)
	case h.GRPC != nil:
		return c.grpc(ctx, b, h.GRPC)
	}
	return nil
}

// hook runs a lifecycle hook.
func (c *container) hook(ctx context.Context, b box, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return c.exec(ctx, b, h.Exec.Command)
	case h.HTTPGet != nil:
		_, _, err := c.get(ctx, b, h.HTTPGet) // any answer will do, as for the kubelet
		return err
	case h.Sleep != nil:
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return nil
}

// maxSaid bounds what is repeated of a probe's answer.
const maxSaid = 200

// get makes a probe's request and returns the status, and what the answer says
// in a form to be appended to it. As for the kubelet, redirects are followed on
// the same host.
func (c *container) get(ctx context.Context, b box, h *corev1.HTTPGetAction) (code int, said string, err error) {
	port, err := c.port(h.Port)
	if err != nil {
		return 0, "", err
	}
	scheme := "http"
	if h.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	path := h.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(c.host(h.Host), port)+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	req.Header.Set("Accept", "*/*")
	for _, header := range h.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
			continue
		}
		req.Header.Add(header.Name, header.Value)
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, DialContext: b.Dial,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} // as the kubelet: a probe asks whether it answers, not who
	client := &http.Client{Transport: transport, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", plain(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 10<<10))
	if line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n"); line != "" && utf8.ValidString(line) {
		said = ": " + line[:min(len(line), maxSaid)]
	}
	return resp.StatusCode, said, nil
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

// plain says an error of a probe without what changes from try to try (the port
// that was dialed from), so that it counts as the same.
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

func (c *container) exec(ctx context.Context, b box, command []string) error {
	out := &head{}
	p, err := b.Exec(ctx, c.name, sandbox.ExecSpec{Argv: command, Stdout: out, Stderr: out})
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		_ = p.Signal(sigKill)
		return fmt.Errorf("command %q timed out", command)
	}
	if s := p.Wait(); s.Code != 0 {
		return fmt.Errorf("command %q exited with status %d%s", command, s.Code, out.text())
	}
	return nil
}

// head keeps the beginning of what a command writes.
type head struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p[:min(len(p), maxSaid-len(h.b))]...)
	return len(p), nil
}

// text is what was written, in a form to be appended to a message.
func (h *head) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := strings.TrimSpace(string(h.b)); s != "" {
		return ": " + strings.ToValidUTF8(s, "?")
	}
	return ""
}

func (c *container) grpc(ctx context.Context, b box, h *corev1.GRPCAction) error {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(c.host(""), strconv.Itoa(int(h.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return b.Dial(ctx, "tcp", addr) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := ""
	if h.Service != nil {
		service = *h.Service
	}
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

func (c *container) host(h string) string {
	if h != "" {
		return h
	}
	return c.w.addresses()[0].String()
}

// port resolves a probe's port: a number, or the name of one of the container's.
func (c *container) port(p intstr.IntOrString) (string, error) {
	if p.Type == intstr.Int {
		return strconv.Itoa(int(p.IntVal)), nil
	}
	for _, cp := range c.spec.Ports {
		if cp.Name == p.StrVal {
			return strconv.Itoa(int(cp.ContainerPort)), nil
		}
	}
	if _, err := strconv.ParseUint(p.StrVal, 10, 16); err == nil {
		return p.StrVal, nil
	}
	return "", errors.New("no port of the container is called " + p.StrVal)
}
