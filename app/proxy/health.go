package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/mallamesh/malla/api/machine"
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

// An asking is one way to ask an application.
type asking struct {
	what string // for people
	try  func(context.Context) error
}

// try returns how to ask once. An application that is not told otherwise is asked at own, the machine's address.
func (r *readinessProbe) try(own string, dial probe.Dial) (asking, error) {
	at := func(host string, port int) string { return net.JoinHostPort(first(host, own), strconv.Itoa(port)) }
	switch {
	case r.HTTPGet != nil:
		q := &probe.HTTP{Agent: "istio-probe/1.0", TLS: strings.EqualFold(r.HTTPGet.Scheme, "https"), Address: at(r.HTTPGet.Host, r.HTTPGet.Port),
			Path: r.HTTPGet.Path, Headers: r.HTTPGet.HTTPHeaders}
		return asking{q.String(), func(ctx context.Context) error { return q.Try(ctx, dial) }}, nil
	case r.TCPSocket != nil:
		to := at(r.TCPSocket.Host, r.TCPSocket.Port)
		return asking{"a connection to " + to, func(ctx context.Context) error { return probe.TCP(ctx, dial, to) }}, nil
	case r.GRPC != nil:
		to, service := at("", r.GRPC.Port), r.GRPC.Service
		return asking{fmt.Sprintf("gRPC health of %q at %s", service, to), func(ctx context.Context) error { return probe.GRPC(ctx, dial, to, service) }}, nil
	case r.Exec != nil && len(r.Exec.Command) > 0:
		command := r.Exec.Command
		return asking{fmt.Sprintf("%q", command), func(ctx context.Context) error {
			if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
				said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
				return fmt.Errorf("command %q: %w %.*s", command, err, probe.MaxSaid, said)
			}
			return nil
		}}, nil
	}
	return asking{}, errors.New("PROXY_CONFIG readinessProbe: says nothing; want httpGet, tcpSocket, exec or grpc")
}

// A health asks the application beside the proxy of a machine whether it is well, and reports what comes of it.
type health struct {
	own    string // address of the machine
	ready  func() (bool, string)
	dial   probe.Dial
	report func(*xdsclient.Request)
	probes chan *readinessProbe // the newest, nil for none
	told   bool                 // by the control plane how to ask
}

// newHealth returns what asks; nil if nobody wants to know.
func (e *environment) newHealth(captured bool, ready func() (bool, string), report func(*xdsclient.Request)) *health {
	if e.Probe == nil && !e.registers() {
		return nil
	}
	h := &health{own: e.IPs[0], ready: ready, dial: e.toApplication(captured), report: report, probes: make(chan *readinessProbe, 1)}
	if e.Probe != nil {
		h.probes <- e.Probe
	} else {
		h.told = true
	}
	return h
}

// take takes in what the control plane says of the probe.
func (h *health) take(u xdsclient.Update) []xdsclient.Refusal {
	if len(u.Removed) > 0 {
		h.set(nil)
	}
	for _, r := range u.Resources {
		text, err := machine.Unpack(r.Body.GetValue())
		next := &readinessProbe{}
		if err == nil {
			err = json.Unmarshal(text, next)
		}
		if err == nil {
			_, err = next.try(h.own, h.dial)
		}
		if err != nil {
			return []xdsclient.Refusal{{Name: r.Name, Err: err}}
		}
		h.set(next)
	}
	return nil
}

// set makes another probe the one to ask by. Only one goroutine may call it.
func (h *health) set(p *readinessProbe) {
	select {
	case <-h.probes: // nobody has begun with it
	default:
	}
	h.probes <- p
}

// run asks until ctx ends.
func (h *health) run(ctx context.Context) error {
	var end context.CancelFunc = func() {}
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		select {
		case p := <-h.probes:
			end()
			asking.Wait()
			if p == nil {
				continue
			}
			ask, err := p.try(h.own, h.dial)
			if err != nil {
				return err
			}
			var inner context.Context
			inner, end = context.WithCancel(ctx)
			asking.Go(func() { h.watch(inner, p.pace(), ask.try) })
		case <-ctx.Done():
			end()
			return nil
		}
	}
}

// watch asks again and again: a proxy that is not ready is not well either.
func (h *health) watch(ctx context.Context, pace probe.Pace, ask func(context.Context) error) {
	probe.Watch(ctx, pace, func(ctx context.Context) error {
		if ok, why := h.ready(); !ok {
			return errors.New(why)
		}
		return ask(ctx)
	}, func(trouble error) {
		r := &xdsclient.Request{TypeUrl: healthType}
		if trouble != nil {
			r.ErrorDetail = &rpcstatus.Status{Code: unhealthy, Message: strings.ToValidUTF8(trouble.Error(), "?")}
		}
		h.report(r)
	})
}

// withHealth is a consumer that takes in the probe too.
type withHealth struct {
	xdsclient.Consumer
	health *health
}

func (c withHealth) Wants() map[string]xdsclient.Interest {
	out := maps.Clone(c.Consumer.Wants())
	out[machine.Type] = xdsclient.Interest{Wildcard: true}
	return out
}

func (c withHealth) Apply(u xdsclient.Update) []xdsclient.Refusal {
	if u.Type == machine.Type {
		return c.health.take(u)
	}
	return c.Consumer.Apply(u)
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
