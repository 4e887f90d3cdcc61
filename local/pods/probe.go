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
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mallamesh/malla/local/sandbox"
)

// eager is the first interval of a probe that has not succeeded yet. It doubles
// up to the probe's period: a program that is up in 30 ms should not wait for the
// next full second.
const eager = 20 * time.Millisecond

// opens bounds how long a container without a readiness probe has to open the
// port it declares before it counts as ready all the same.
const opens = 3 * time.Second

// probe watches a running container until ctx ends.
func (c *container) probe(ctx context.Context, box *sandbox.Pod) {
	if p := c.spec.StartupProbe; p != nil {
		if !c.until(ctx, box, p, "Startup") {
			return
		}
		c.mu.Lock()
		c.started = true
		c.mu.Unlock()
		c.w.changed()
	}
	if c.spec.LivenessProbe != nil {
		go c.live(ctx, box, c.spec.LivenessProbe)
	}
	if c.spec.ReadinessProbe == nil {
		c.waitForPort(ctx, box)
		if ctx.Err() == nil {
			c.setReady(true)
		}
		return
	}
	c.readiness(ctx, box, c.spec.ReadinessProbe)
}

// waitForPort waits until a port that the container declares is open. Kubernetes
// would count it as ready at once; here that would only mean refused connections.
func (c *container) waitForPort(ctx context.Context, box *sandbox.Pod) {
	ctx, cancel := context.WithTimeout(ctx, opens)
	defer cancel()
	for _, port := range c.spec.Ports {
		if port.Protocol == corev1.ProtocolUDP || port.Protocol == corev1.ProtocolSCTP {
			continue
		}
		for wait := eager / 2; ; {
			for _, host := range []string{c.w.ips[0].String(), "127.0.0.1"} {
				if conn, err := box.Dial(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port.ContainerPort)))); err == nil {
					conn.Close()
					return
				}
			}
			if !sleep(ctx, wait) {
				return
			}
			wait = min(2*wait, 100*time.Millisecond)
		}
	}
}

// until repeats a startup probe; false means that the container was killed or
// has ended.
func (c *container) until(ctx context.Context, box *sandbox.Pod, p *corev1.Probe, what string) bool {
	if !sleep(ctx, time.Duration(p.InitialDelaySeconds)*time.Second) {
		return false
	}
	wait, counted := eager, time.Now()
	for failures := int32(0); ; {
		err := c.try(ctx, box, p)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if time.Since(counted) >= period(p) { // only the regular tries count as failures
			counted = time.Now()
			if failures++; failures >= threshold(p.FailureThreshold) {
				c.unhealthy(ctx, what, err, true)
				return false
			}
		}
		if !sleep(ctx, wait) {
			return false
		}
		wait = min(2*wait, period(p))
	}
}

// live kills the container when its liveness probe fails often enough.
func (c *container) live(ctx context.Context, box *sandbox.Pod, p *corev1.Probe) {
	if !sleep(ctx, time.Duration(p.InitialDelaySeconds)*time.Second) {
		return
	}
	for failures := int32(0); sleep(ctx, period(p)); {
		err := c.try(ctx, box, p)
		if err == nil {
			failures = 0
			continue
		}
		failures++
		last := failures >= threshold(p.FailureThreshold)
		c.unhealthy(ctx, "Liveness", err, last)
		if last {
			return
		}
	}
}

// readiness follows a readiness probe.
func (c *container) readiness(ctx context.Context, box *sandbox.Pod, p *corev1.Probe) {
	if !sleep(ctx, time.Duration(p.InitialDelaySeconds)*time.Second) {
		return
	}
	wait, first := eager, true
	var successes, failures int32
	for {
		if err := c.try(ctx, box, p); err == nil {
			failures = 0
			if successes++; successes >= threshold1(p.SuccessThreshold) {
				first = false
				c.setReady(true)
			}
		} else if ctx.Err() == nil {
			successes = 0
			if failures++; !first && failures >= threshold(p.FailureThreshold) {
				c.setReady(false)
				c.unhealthy(ctx, "Readiness", err, false)
			}
		}
		if !first {
			wait = period(p)
		}
		if !sleep(ctx, wait) {
			return
		}
		wait = min(2*wait, period(p))
	}
}

func (c *container) unhealthy(ctx context.Context, what string, err error, kill bool) {
	c.w.event(ctx, corev1.EventTypeWarning, "Unhealthy", fmt.Sprintf("%s probe failed: %v", what, err))
	if !kill {
		return
	}
	c.w.event(ctx, corev1.EventTypeNormal, "Killing", fmt.Sprintf("Container %s failed %s probe, will be restarted", c.name, strings.ToLower(what)))
	if p := c.current(); p != nil {
		_ = p.Signal(sigTerm)
		select {
		case <-p.Done():
		case <-time.After(c.w.grace()):
			_ = p.Signal(sigKill)
		}
	}
}

func period(p *corev1.Probe) time.Duration {
	if p.PeriodSeconds > 0 {
		return time.Duration(p.PeriodSeconds) * time.Second
	}
	return 10 * time.Second
}

func threshold(n int32) int32 {
	if n > 0 {
		return n
	}
	return 3
}

func threshold1(n int32) int32 { return max(n, 1) }

// sleep waits, and reports whether there is time left.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// try makes one attempt within the probe's timeout.
func (c *container) try(ctx context.Context, box *sandbox.Pod, p *corev1.Probe) error {
	timeout := time.Second
	if p.TimeoutSeconds > 0 {
		timeout = time.Duration(p.TimeoutSeconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch h := p.ProbeHandler; {
	case h.HTTPGet != nil:
		return c.get(ctx, box, h.HTTPGet)
	case h.TCPSocket != nil:
		port, err := c.port(h.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := box.Dial(ctx, "tcp", net.JoinHostPort(c.host(h.TCPSocket.Host), port))
		if err != nil {
			return err
		}
		return conn.Close()
	case h.Exec != nil:
		return c.exec(ctx, box, h.Exec.Command)
	case h.GRPC != nil:
		return c.grpc(ctx, box, h.GRPC)
	}
	return nil
}

// handle runs a lifecycle hook.
func (c *container) handle(ctx context.Context, box *sandbox.Pod, h *corev1.LifecycleHandler) error {
	switch {
	case box == nil:
		return nil
	case h.Exec != nil:
		return c.exec(ctx, box, h.Exec.Command)
	case h.HTTPGet != nil:
		return c.get(ctx, box, h.HTTPGet)
	case h.Sleep != nil:
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return nil
}

// get makes a probe's request: any status from 200 to 399 is fine.
func (c *container) get(ctx context.Context, box *sandbox.Pod, h *corev1.HTTPGetAction) error {
	port, err := c.port(h.Port)
	if err != nil {
		return err
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
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	for _, header := range h.HTTPHeaders {
		if strings.EqualFold(header.Name, "Host") {
			req.Host = header.Value
			continue
		}
		req.Header.Add(header.Name, header.Value)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: box.Dial,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} // as the kubelet: a probe asks whether it answers, not who
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 10<<10)
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}

func (c *container) exec(ctx context.Context, box *sandbox.Pod, command []string) error {
	p, err := box.Exec(ctx, c.name, sandbox.ExecSpec{Argv: command})
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
		return fmt.Errorf("command %q exited with status %d", command, s.Code)
	}
	return nil
}

func (c *container) grpc(ctx context.Context, box *sandbox.Pod, h *corev1.GRPCAction) error {
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(c.host(""), strconv.Itoa(int(h.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return box.Dial(ctx, "tcp", addr) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := ""
	if h.Service != nil {
		service = *h.Service
	}
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
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
	return c.w.ips[0].String()
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
