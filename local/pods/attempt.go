package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/node/probe"
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
		q, err := c.request(h.HTTPGet)
		if err != nil {
			return err
		}
		return q.Try(ctx, b.Dial)
	case h.TCPSocket != nil:
		port, err := c.port(h.TCPSocket.Port)
		if err != nil {
			return err
		}
		return probe.TCP(ctx, b.Dial, net.JoinHostPort(c.host(h.TCPSocket.Host), port))
	case h.Exec != nil:
		return c.exec(ctx, b, h.Exec.Command)
	case h.GRPC != nil:
		service := ""
		if h.GRPC.Service != nil {
			service = *h.GRPC.Service
		}
		return probe.GRPC(ctx, b.Dial, net.JoinHostPort(c.host(""), strconv.Itoa(int(h.GRPC.Port))), service)
	}
	return nil
}

// hook runs a lifecycle hook.
func (c *container) hook(ctx context.Context, b box, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return c.exec(ctx, b, h.Exec.Command)
	case h.HTTPGet != nil:
		q, err := c.request(h.HTTPGet)
		if err == nil {
			_, _, err = q.Ask(ctx, b.Dial) // any answer will do, as for the kubelet
		}
		return err
	case h.Sleep != nil:
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return nil
}

// request makes the request of a probe or a hook.
func (c *container) request(h *corev1.HTTPGetAction) (probe.HTTP, error) {
	port, err := c.port(h.Port)
	if err != nil {
		return probe.HTTP{}, err
	}
	q := probe.HTTP{Agent: "kube-probe/1.37", TLS: h.Scheme == corev1.URISchemeHTTPS, Address: net.JoinHostPort(c.host(h.Host), port), Path: h.Path}
	for _, header := range h.HTTPHeaders {
		q.Headers = append(q.Headers, probe.Header{Name: header.Name, Value: header.Value})
	}
	return q, nil
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
	h.b = append(h.b, p[:min(len(p), probe.MaxSaid-len(h.b))]...)
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
