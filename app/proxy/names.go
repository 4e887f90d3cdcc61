package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/mallamesh/malla/api/nds"
	"github.com/mallamesh/malla/node/dns"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// dnsAddress is where interception sends what the application asks name servers (Istio's port), if
// ISTIO_META_DNS_PROXY_ADDR names no other.
const dnsAddress = "localhost:15053"

// upstreamTimeout bounds one try at one name server.
const upstreamTimeout = 2 * time.Second

// names answers what the application asks name servers (ISTIO_META_DNS_CAPTURE): from the control
// plane's table, else by the name servers that it wanted to ask.
type names struct {
	server  dns.Server
	address string
	ready   atomic.Bool
	all     bool // every question is logged
	log     *slog.Logger
	net     *net.Dialer
	servers []string

	requests, upstream, failures atomic.Uint64
	took                         latency
}

// newNames returns what answers for a proxy, nil if its application's questions do not come here.
func newNames(e *environment, d *net.Dialer, log *slog.Logger) (*names, error) {
	if e.Type != "sidecar" || e.Metadata["DNS_CAPTURE"] != "true" {
		return nil, nil
	}
	config, err := mdns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil, fmt.Errorf("ISTIO_META_DNS_CAPTURE: read the name servers: %w", err)
	}
	n := &names{address: first(e.Metadata["DNS_PROXY_ADDR"], dnsAddress), all: e.Metadata["DNS_LOG"] == "true", log: log, net: d}
	for _, s := range config.Servers {
		n.servers = append(n.servers, net.JoinHostPort(s, config.Port))
	}
	n.server = dns.Server{Partial: true, TTL: 30, Forward: n.forward, Observe: n.observe, Log: log}
	return n, nil
}

// serve answers until ctx ends: where the name of the address means addresses of both families, on both.
func (n *names) serve(ctx context.Context) error {
	host, port, err := net.SplitHostPort(n.address)
	if err != nil {
		return fmt.Errorf("ISTIO_META_DNS_PROXY_ADDR: %w", err)
	}
	hosts := []string{host}
	if host == "localhost" || host == "" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	failed := make(chan error, 4)
	open := 0
	for _, h := range hosts {
		udp, err := net.ListenPacket("udp", net.JoinHostPort(h, port))
		if err != nil {
			if h == "::1" { // there is no IPv6 here
				continue
			}
			return fmt.Errorf("answer names: %w", err)
		}
		tcp, err := net.Listen("tcp", net.JoinHostPort(h, port))
		if err != nil {
			udp.Close()
			return fmt.Errorf("answer names: %w", err)
		}
		defer udp.Close()
		defer tcp.Close()
		open += 2
		go func() { failed <- n.server.ServeUDP(udp) }()
		go func() { failed <- n.server.ServeTCP(tcp) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

var errNoTable = errors.New("the control plane has not said yet what names mean")

// forward asks the name servers, one after the other. Before the first table nobody knows whether a name is of the
// mesh, so none is asked for elsewhere.
func (n *names) forward(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
	if !n.ready.Load() {
		return nil, errNoTable
	}
	n.upstream.Add(1)
	began := time.Now()
	defer func() { n.took.add(time.Since(began)) }()
	var last error
	for _, server := range n.servers {
		a, err := n.ask(ctx, q, server)
		if err == nil {
			return a, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	n.failures.Add(1)
	return nil, last
}

func (n *names) ask(ctx context.Context, q *mdns.Msg, server string) (*mdns.Msg, error) {
	d := *n.net
	d.Timeout = upstreamTimeout
	c := mdns.Client{Net: "udp", Dialer: &d, Timeout: upstreamTimeout, UDPSize: 4096}
	a, _, err := c.ExchangeContext(ctx, q, server)
	if err == nil && a.Truncated {
		c.Net = "tcp"
		a, _, err = c.ExchangeContext(ctx, q, server)
	}
	return a, err
}

// observe counts a question, and logs it where somebody asked for that.
func (n *names) observe(a *dns.Asked) {
	n.requests.Add(1)
	if !n.all && (a.Rule == nil || !a.Rule.Log) {
		return
	}
	fields := []any{"name", a.Name, "type", a.Type, "answer", a.Rcode, "from", string(a.Source), "took", a.Took.Round(time.Microsecond)}
	if len(a.Answer) > 0 {
		fields = append(fields, "means", a.Answer)
	}
	if a.Rule != nil {
		fields = append(fields, "policy", a.Rule.From)
	}
	n.log.Info("dns", fields...)
}

// take takes in what names mean from now on.
func (n *names) take(u xdsclient.Update) []xdsclient.Refusal {
	var refused []xdsclient.Refusal
	for _, r := range u.Resources {
		t, err := nds.Parse(r.Body.GetValue())
		if err != nil {
			refused = append(refused, xdsclient.Refusal{Name: r.Name, Err: err})
			continue
		}
		records := make(map[string]dns.Record, len(t.Names))
		for name, x := range t.Names {
			records[name] = dns.Record{Addrs: x.Addrs, Tiers: x.Tiers}
		}
		rules := make(dns.Rules, 0, len(t.Rules))
		for _, x := range t.Rules {
			rules = append(rules, dns.Rule(x))
		}
		n.server.SetTable(dns.NewTable(nil, records))
		n.server.SetRules(rules)
		n.ready.Store(true)
	}
	return refused
}

// withNames is a consumer that takes in the table of names too.
type withNames struct {
	xdsclient.Consumer
	names *names
}

func (c withNames) Wants() map[string]xdsclient.Interest {
	out := maps.Clone(c.Consumer.Wants())
	out[nds.Type] = xdsclient.Interest{Wildcard: true}
	return out
}

func (c withNames) Apply(u xdsclient.Update) []xdsclient.Refusal {
	if u.Type == nds.Type {
		return c.names.take(u)
	}
	return c.Consumer.Apply(u)
}

// writeMetrics writes what Istio's agent counts.
func (n *names) writeMetrics(w io.Writer) error {
	const prefix = "istio_agent_dns_"
	for _, m := range []struct {
		name, help string
		value      *atomic.Uint64
	}{
		{"requests_total", "Total number of DNS requests.", &n.requests},
		{"upstream_requests_total", "Total number of DNS requests forwarded to upstream.", &n.upstream},
		{"upstream_failures_total", "Total number of DNS upstream failures.", &n.failures},
	} {
		if _, err := fmt.Fprintf(w, "# HELP %s%s %s\n# TYPE %[1]s%[2]s counter\n%[1]s%[2]s %[4]d\n", prefix, m.name, m.help, m.value.Load()); err != nil {
			return err
		}
	}
	return n.took.write(w, prefix+"upstream_request_duration_seconds", "Total time in seconds Istio takes to get DNS response from upstream.")
}

// A latency counts times in the steps of Istio's agent.
type latency struct {
	count   [len(latencySteps) + 1]atomic.Uint64
	elapsed atomic.Int64
}

var latencySteps = [...]time.Duration{time.Millisecond, 5 * time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second}

func (l *latency) add(d time.Duration) {
	i := 0
	for i < len(latencySteps) && d > latencySteps[i] {
		i++
	}
	l.count[i].Add(1)
	l.elapsed.Add(int64(d))
}

func (l *latency) write(w io.Writer, name, help string) error {
	text := fmt.Appendf(nil, "# HELP %s %s\n# TYPE %[1]s histogram\n", name, help)
	total := uint64(0)
	for i := range l.count {
		total += l.count[i].Load()
		le := "+Inf"
		if i < len(latencySteps) {
			le = strconv.FormatFloat(latencySteps[i].Seconds(), 'g', -1, 64)
		}
		text = fmt.Appendf(text, "%s_bucket{le=%q} %d\n", name, le, total)
	}
	text = fmt.Appendf(text, "%s_sum %g\n%[1]s_count %[3]d\n", name, time.Duration(l.elapsed.Load()).Seconds(), total)
	_, err := w.Write(text)
	return err
}
