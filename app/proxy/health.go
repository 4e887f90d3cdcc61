package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/mallamesh/malla/node/probe"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// healthType is that of the word by which a proxy says how its application fares (Istio's).
const healthType = "type.googleapis.com/istio.v1.HealthInformation"

// unhealthy is Istio's code in it.
const unhealthy = 500

// A readinessProbe is ProxyConfig's: how to ask the application of a machine whether it is well.
type readinessProbe struct {
	InitialDelaySeconds int `json:"initialDelaySeconds"`
	TimeoutSeconds      int `json:"timeoutSeconds"`
	PeriodSeconds       int `json:"periodSeconds"`
	SuccessThreshold    int `json:"successThreshold"`
	FailureThreshold    int `json:"failureThreshold"`
	HTTPGet             *struct {
		Path, Host, Scheme string
		Port               int
		HTTPHeaders        []probe.Header `json:"httpHeaders"`
	} `json:"httpGet"`
	TCPSocket *struct {
		Host string
		Port int
	} `json:"tcpSocket"`
	Exec *struct{ Command []string } `json:"exec"`
	GRPC *struct {
		Port    int
		Service string
	} `json:"grpc"`
}

func (r *readinessProbe) pace() probe.Pace {
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	return probe.Pace{Delay: seconds(r.InitialDelaySeconds), Period: seconds(r.PeriodSeconds), Timeout: seconds(r.TimeoutSeconds),
		Successes: r.SuccessThreshold, Failures: r.FailureThreshold}
}

// try returns how to ask once. An application that is not told otherwise is asked at own, the machine's address.
func (r *readinessProbe) try(own string, dial probe.Dial) (func(context.Context) error, error) {
	at := func(host string, port int) string { return net.JoinHostPort(first(host, own), strconv.Itoa(port)) }
	switch {
	case r.HTTPGet != nil:
		q := &probe.HTTP{Agent: "istio-probe/1.0", TLS: strings.EqualFold(r.HTTPGet.Scheme, "https"), Address: at(r.HTTPGet.Host, r.HTTPGet.Port),
			Path: r.HTTPGet.Path, Headers: r.HTTPGet.HTTPHeaders}
		return func(ctx context.Context) error { return q.Try(ctx, dial) }, nil
	case r.TCPSocket != nil:
		to := at(r.TCPSocket.Host, r.TCPSocket.Port)
		return func(ctx context.Context) error { return probe.TCP(ctx, dial, to) }, nil
	case r.GRPC != nil:
		to, service := at("", r.GRPC.Port), r.GRPC.Service
		return func(ctx context.Context) error { return probe.GRPC(ctx, dial, to, service) }, nil
	case r.Exec != nil && len(r.Exec.Command) > 0:
		command := r.Exec.Command
		return func(ctx context.Context) error {
			if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
				said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
				return fmt.Errorf("command %q: %w %.*s", command, err, probe.MaxSaid, said)
			}
			return nil
		}, nil
	}
	return nil, errors.New("PROXY_CONFIG readinessProbe: says nothing; want httpGet, tcpSocket, exec or grpc")
}

// watchHealth asks the application until ctx ends, and reports what comes of it: a proxy that is not ready is not well either.
func (e *environment) watchHealth(ctx context.Context, ready func() (bool, string), dial probe.Dial, report func(*xdsclient.Request)) error {
	ask, err := e.Probe.try(e.IPs[0], dial)
	if err != nil {
		return err
	}
	probe.Watch(ctx, e.Probe.pace(), func(ctx context.Context) error {
		if ok, why := ready(); !ok {
			return errors.New(why)
		}
		return ask(ctx)
	}, func(trouble error) {
		r := &xdsclient.Request{TypeUrl: healthType}
		if trouble != nil {
			r.ErrorDetail = &rpcstatus.Status{Code: unhealthy, Message: strings.ToValidUTF8(trouble.Error(), "?")}
		}
		report(r)
	})
	return nil
}

// sources are the addresses from which a connection to the own machine is not taken for one of a client, and led back to us.
var sources = map[bool]net.Addr{true: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 6)}, false: &net.TCPAddr{IP: net.ParseIP("::6")}}

// toApplication returns how to connect to the application beside us.
func (e *environment) toApplication(captured bool) probe.Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := net.Dialer{}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		ip, err := netip.ParseAddr(host)
		if captured && err == nil && (ip.IsLoopback() || slices.Contains(e.IPs, host)) {
			d.LocalAddr = sources[ip.Is4()]
		}
		c, err := d.DialContext(ctx, network, address)
		if errors.Is(err, syscall.EADDRNOTAVAIL) { // this machine has no such source
			d.LocalAddr = nil
			return d.DialContext(ctx, network, address)
		}
		return c, err
	}
}
