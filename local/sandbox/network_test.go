//go:build linux

package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/node/capture"
	"github.com/mallamesh/malla/node/dns"
	"github.com/mallamesh/malla/test/busy"
)

func join(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// ask connects through Dial, from the pod's network namespace, without the cost
// of a container.
func dial(p *testPod, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := p.Dial(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return strings.TrimSpace(string(b)), err
}

func want(m *mesh, what, got, want string) {
	m.Helper()
	if got != want {
		m.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestPodsReachEachOther(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a, b := m.pod("a"), m.pod("b")
		b.echo("80") // applications may use low ports
		want(m, "IPv4", a.ask(join(b.v4, 80)), "b saw "+a.v4.String())
		want(m, "IPv6", a.ask(join(b.v6, 80)), "b saw "+a.v6.String())
		want(m, "a pod reaches itself", b.ask(join(b.v4, 80)), "b saw "+b.v4.String())
		want(m, "by its own name", b.ask("b:80"), "b saw "+b.v4.String())
		if out := a.ask(join(b.v4, 81)); !strings.Contains(out, "connection refused") || strings.Contains(out, "slow") {
			m.Errorf("a port where nobody listens: %s", out)
		}
		if out := a.ask("10.244.9.9:80"); !strings.Contains(out, "connection refused") || strings.Contains(out, "slow") {
			m.Errorf("an address that no pod has: %s", out)
		}
		if out := a.ask("[fd00:6d61:6c6c:1::99]:80"); !strings.Contains(out, "connection refused") || strings.Contains(out, "slow") {
			m.Errorf("an IPv6 address that no pod has: %s", out)
		}
	})
}

// A pod that is killed whole is unreachable at once, and its peers' connections
// end at once.
func TestKilledPodIsUnreachableAtOnce(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		for _, v6 := range []bool{false, true} {
			b := m.pod("b")
			_, out := b.start(sandbox.ContainerSpec{Argv: []string{sandbox.Self, "pod-test", "sink", "80"}})
			out.waitFor(m.T, "ready")
			addr := b.v4
			if v6 {
				addr = b.v6
			}
			hold, held := a.start(sandbox.ContainerSpec{Argv: []string{sandbox.Self, "pod-test", "hold", join(addr, 80)}})
			held.waitFor(m.T, "connected")
			busy.Record()
			start := time.Now()
			b.Kill()
			<-b.Done()
			m.Logf("gone after %v", time.Since(start))
			if got := a.ask(join(addr, 80)); !strings.Contains(got, "connection refused") || strings.Contains(got, "slow") {
				m.Errorf("new connection to %s: %s", addr, got)
			}
			select {
			case <-hold.Done():
			case <-time.After(5 * time.Second):
			}
			if took := busy.Free(start, time.Now()); took > time.Second {
				m.Errorf("the peer of %s did not hear of the pod's death within 1 s, but %v", addr, took)
			}
			m.Logf("peer: %s after %v", held, time.Since(start))
			if _, err := b.Start(m.Context(), sandbox.ContainerSpec{Name: "x", Argv: []string{"/bin/true"}}); err == nil {
				m.Error("a container started in a dead pod")
			}
			if s := hold.Wait(); s.PodGone {
				m.Error("the peer's pod went too")
			}
		}
	})
}

func TestClusterIPs(t *testing.T) {
	inMesh(t, func(m *mesh) {
		client := m.pod("client")
		vip4, vip6 := netip.MustParseAddr("10.96.7.7"), netip.MustParseAddr("fd00:6d61:6c6c:2::77")
		var endpoints []netip.AddrPort
		var backends []*testPod
		for i := range 3 {
			p := m.pod(fmt.Sprintf("web%d", i))
			p.echo("8080")
			backends = append(backends, p)
			endpoints = append(endpoints, netip.AddrPortFrom(p.v4, 8080), netip.AddrPortFrom(p.v6, 8080))
		}
		set := func(endpoints ...netip.AddrPort) {
			m.Helper()
			err := m.router.SetServices([]router.Service{{
				Namespace: "default", Name: "web", ClusterIPs: []netip.Addr{vip4, vip6},
				Ports: []router.ServicePort{{Port: 80, Endpoints: endpoints}, {Port: 81}},
			}})
			if err != nil {
				m.Fatal(err)
			}
		}
		set(endpoints...)

		const n = 600
		for _, vip := range []netip.Addr{vip4, vip6} {
			counts := make(map[string]int)
			for range n {
				out, err := dial(client, join(vip, 80))
				if err != nil {
					m.Fatal(err)
				}
				counts[strings.Fields(out)[0]]++
			}
			chi := 0.0
			for _, p := range backends {
				d := float64(counts[p.name]) - n/3
				chi += d * d / (n / 3)
			}
			if chi > 32.2 || math.IsNaN(chi) { // p = 1e-7 with two degrees of freedom
				m.Errorf("%s: connections are not spread evenly: %v (chi squared %.1f)", vip, counts, chi)
			}
		}
		out, err := dial(client, join(vip4, 81))
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			m.Errorf("a port without endpoints: %q, %v; want connection refused", out, err)
		}
		out, err = dial(client, "10.96.200.1:80")
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			m.Errorf("an address without service: %q, %v; want connection refused", out, err)
		}
		_, err = dial(client, "[fd00:6d61:6c6c:2::99]:80")
		if err == nil || !strings.Contains(err.Error(), "connection refused") {
			m.Errorf("an IPv6 address without service: %v; want connection refused", err)
		}

		set(endpoints[:2]...) // only web0
		self := backends[0]
		want(m, "a pod that is its service's endpoint", self.ask(join(vip4, 80)), "web0 saw 169.254.1.1")
		if out := self.ask(join(vip6, 80)); !strings.HasPrefix(out, "web0 saw fd00:6d61:6c6c:2::") {
			m.Errorf("a pod that is its service's endpoint, IPv6: %s", out)
		}
		c, err := net.DialTimeout("tcp", join(vip4, 80), 5*time.Second)
		if err != nil {
			m.Errorf("the supervisor's own connection to a service: %v", err)
		} else {
			c.Close()
		}
		set()
		if _, err := dial(client, join(vip4, 80)); err == nil || !strings.Contains(err.Error(), "connection refused") {
			m.Errorf("after the last endpoint went: %v; want connection refused", err)
		}
		for _, bad := range []router.Service{
			{Name: "x", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.1.2.3")}},
			{Name: "x", ClusterIPs: []netip.Addr{vip4}, Ports: []router.ServicePort{{Port: 1, Protocol: "SCTP"}}},
			{Name: "x", ClusterIPs: []netip.Addr{vip4}, Ports: []router.ServicePort{{Port: 1}, {Port: 1}}},
		} {
			if err := m.router.SetServices([]router.Service{bad}); err == nil {
				m.Errorf("%+v was accepted", bad)
			}
		}
	})
}

func TestNames(t *testing.T) {
	inMesh(t, func(m *mesh) {
		m.router.SetNames(dns.NewTable([]string{"cluster.local"}, map[string]dns.Record{
			"web.default.svc.cluster.local":     {Addrs: []netip.Addr{netip.MustParseAddr("10.96.7.7"), netip.MustParseAddr("fd00:6d61:6c6c:2::77")}},
			"outside.default.svc.cluster.local": {CNAME: "outside.test"},
		}))
		a := m.pod("a")
		for _, test := range []struct{ command, want, why string }{
			{"getent ahostsv4 web", "10.96.7.7", "a service by its short name"},
			{"getent ahostsv6 web.default", "fd00:6d61:6c6c:2::77", "and in IPv6"},
			{"getent ahostsv4 web.default.svc.cluster.local", "10.96.7.7", "and by its full one"},
			{"getent ahostsv4 outside", "192.0.2.7", "an ExternalName leads outside, to the host's resolver"},
			{"getent ahostsv6 outside.test", "2001:db8::7", "any other name is the host's resolver's"},
			{"getent ahostsv4 host.malla.internal", "10.96.255.254", "the developer's machine"},
			{"getent hosts a", a.v6.String(), "its own name, from /etc/hosts"},
			{"hostname", "a", "its host name is the pod's"},
			{"cat /etc/hostname", "a", "in the file, too"},
		} {
			out, s := a.run(test.command)
			if s.Code != 0 || !strings.HasPrefix(out, test.want) {
				if test.command == "getent hosts a" && strings.HasPrefix(out, a.v4.String()) {
					continue // either family
				}
				m.Errorf("%s: %s: got %q (%d), want %s", test.command, test.why, out, s.Code, test.want)
			}
		}
		busy.Record()
		start := time.Now() // a resolver that is not answered asks again after 5 s
		if out, s := a.run("getent hosts nobody"); s.Code == 0 || busy.Free(start, time.Now()) > 4*time.Second {
			m.Errorf("an unknown name: %q after %v, want a no before the question is asked again", out, time.Since(start))
		}
	})
}

// hostServer listens on the host's loopback (and on another of its addresses,
// if it has one), and answers with how many bytes it got, after the peer ended
// its side.
func hostServer(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				n, _ := io.Copy(io.Discard, c)
				fmt.Fprintf(c, "got %d", n)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	t.Setenv("HOST_PORT", port)
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil && !n.IP.IsLoopback() {
			t.Setenv("HOST_ADDR", n.IP.String())
		}
	}
}

func TestWayOut(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a, port := m.pod("a"), os.Getenv("HOST_PORT")
		half := func(addr string) string {
			out, _ := a.runArgs(sandbox.Self, "pod-test", "half", addr)
			return out
		}
		const got = "got 8388608 <nil>"
		want(m, "the host's loopback by name", half("host.malla.internal:"+port), got)
		want(m, "the host's loopback by IPv6", half("["+router.HostIPs[1].String()+"]:"+port), got)
		if addr := os.Getenv("HOST_ADDR"); addr != "" {
			want(m, "an address of the outside", half(addr+":"+port), got)
		}
		if out := a.ask("host.malla.internal:1"); !strings.Contains(out, "reset") || strings.Contains(out, "slow") {
			m.Errorf("a port where the host has no server: %s; want a reset at once", out)
		}
		// The outside listener is not a way around: called directly it hangs up.
		if out := a.ask("169.254.1.1:15001"); strings.Contains(out, "got") {
			m.Errorf("the router's own port: %s", out)
		}
	}, hostServer)
}

func TestCapture(t *testing.T) {
	inMesh(t, func(m *mesh) {
		b := m.pod("b")
		b.echo("80")
		a := m.pod("a", func(s *sandbox.PodSpec) {
			s.Capture = &capture.Config{ExcludeOutbound: []uint16{9999}, ExcludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.5.0/24")}}
		})
		_, out := a.start(sandbox.ContainerSpec{Name: "istio-proxy", Sidecar: true, Argv: []string{sandbox.Self, "pod-test", "sidecar"}})
		out.waitFor(m.T, "ready")
		a.echo("8080")

		for _, addr := range []string{join(b.v4, 80), join(b.v6, 80), "10.96.1.1:80", "192.0.2.1:443", "[2001:db8::1]:443"} {
			want(m, "an application's connection to "+addr, a.ask(addr), "15001 "+addr+" <nil>")
		}
		want(m, "to its own loopback", a.ask("127.0.0.1:8080"), "a saw 127.0.0.1")
		want(m, "to its own IPv6 loopback", a.ask("[::1]:8080"), "a saw ::1")
		want(m, "to its own address", a.ask(join(a.v4, 8080)), "a saw "+a.v4.String())
		for _, addr := range []string{join(a.v4, 8080), join(a.v6, 8080)} {
			want(m, "from another pod to "+addr, b.ask(addr), "15006 "+addr+" <nil>")
		}
		if out := a.ask(join(b.v4, 9999)); !strings.Contains(out, "refused") {
			m.Errorf("an excluded port: %s; want b's own answer", out)
		}
		if out := a.ask("10.96.5.5:80"); !strings.Contains(out, "refused") {
			m.Errorf("an excluded address: %s; want the router's own answer", out)
		}

		// Probes come from inside the namespace and pass no sidecar.
		got, err := dial(a, join(a.v4, 8080))
		if err != nil || got != "a saw "+a.v4.String() {
			m.Errorf("a probe: %q, %v", got, err)
		}

		// Only the sidecar can mark its connections past itself.
		mark := []string{sandbox.Self, "pod-test", "mark", join(b.v4, 80)}
		if out, _ := a.runArgs(mark...); !strings.Contains(out, "operation not permitted") {
			m.Errorf("an application marked its connection: %s", out)
		}
		q, marked := a.start(sandbox.ContainerSpec{Argv: mark, Sidecar: true})
		q.Wait()
		want(m, "the sidecar's own connection", strings.TrimSpace(marked.String()), "b saw "+a.v4.String())
		for _, try := range []string{
			"nft flush ruleset", "ip link set eth0 down", "ip netns add x",
			// A user namespace of its own has all capabilities, but not over this network.
			"unshare -U -r nft flush ruleset", "unshare -U -r " + strings.Join(mark, " ") + " | grep 'b saw'",
			"nsenter -t 1 -n -m true", "kill -9 1 && cat /proc/1/mem",
		} {
			if out, s := a.run(try); s.Code == 0 {
				m.Errorf("an application could %q: %s", try, out)
			}
		}
		want(m, "after that, still", a.ask("10.96.1.1:80"), "15001 10.96.1.1:80 <nil>")
	})
}

func TestDialInPod(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		a.echo("80")
		got, err := dial(a, "localhost:80")
		if err != nil || got != "a saw 127.0.0.1" {
			m.Errorf("localhost: %q, %v", got, err)
		}
		if _, err := dial(a, "a:80"); err == nil || !strings.Contains(err.Error(), "want an IP address") {
			m.Errorf("a name: %v", err)
		}
		a.Kill()
		<-a.Done()
		if _, err := dial(a, "localhost:80"); err == nil {
			m.Error("dialled in a dead pod")
		}
		// The thread that was there is gone: this one is the router's.
		if err := syscall.Access("/proc/sys/net/ipv4/ip_forward", 4); err != nil {
			m.Error(err)
		}
	})
}

// UDP services follow their endpoints, also for a client that never stops
// sending from one port.
func TestUDPService(t *testing.T) {
	inMesh(t, func(m *mesh) {
		client := m.pod("client")
		for _, vip := range []netip.Addr{netip.MustParseAddr("10.96.7.8"), netip.MustParseAddr("fd00:6d61:6c6c:2::78")} {
			c, err := client.Dial(m.Context(), "udp", join(vip, 5353))
			if err != nil {
				m.Fatal(err)
			}
			defer c.Close()
			question := 0
			ask := func() string {
				first := question + 1
				b := make([]byte, 100)
				for range 50 {
					question++
					fmt.Fprint(c, question)
					c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
					n, err := c.Read(b)
					if err != nil {
						continue
					}
					// An answer that comes late may be one to what was asked before.
					if name, to, _ := strings.Cut(string(b[:n]), " to "); number(to) >= first {
						return name
					}
				}
				return "nothing"
			}
			fmt.Fprint(c, question) // before the service has an endpoint
			for _, name := range []string{"first", "second"} {
				p := m.pod(name)
				_, out := p.start(sandbox.ContainerSpec{Argv: []string{sandbox.Self, "pod-test", "udp-serve", "53", name}})
				out.waitFor(m.T, "ready")
				if err := m.router.SetServices([]router.Service{{
					Namespace: "default", Name: "udp", ClusterIPs: []netip.Addr{vip},
					Ports: []router.ServicePort{{Protocol: "UDP", Port: 5353, Endpoints: []netip.AddrPort{netip.AddrPortFrom(p.v4, 53), netip.AddrPortFrom(p.v6, 53)}}},
				}}); err != nil {
					m.Fatal(err)
				}
				want(m, vip.String(), ask(), name)
			}
		}
	})
}

func number(text string) (n int) {
	_, _ = fmt.Sscan(text, &n)
	return n
}

// A mesh of a thousand services is set in one go, and quickly.
func TestManyServices(t *testing.T) {
	inMesh(t, func(m *mesh) {
		p := m.pod("web")
		p.echo("80")
		var services []router.Service
		for i := range 1000 {
			s := router.Service{Namespace: "default", Name: fmt.Sprint("s", i), ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(1 + i/250), byte(1 + i%250)})}}
			var endpoints []netip.AddrPort
			for j := range 4 {
				endpoints = append(endpoints, netip.AddrPortFrom(p.v4, uint16(80+j*1000)))
			}
			s.Ports = []router.ServicePort{{Port: 80, Endpoints: endpoints[:1]}, {Port: 81, Endpoints: endpoints}}
			services = append(services, s)
		}
		start := time.Now()
		if err := m.router.SetServices(services); err != nil {
			m.Fatal(err)
		}
		m.Logf("1000 services set in %v", time.Since(start))
		got, err := dial(p, "10.96.4.250:80")
		if err != nil || !strings.HasPrefix(got, "web saw") {
			m.Errorf("the last one: %q, %v", got, err)
		}
		if err := m.router.SetServices(nil); err != nil {
			m.Fatal(err)
		}
	})
}

func TestCaptureOptions(t *testing.T) {
	inMesh(t, func(m *mesh) {
		b := m.pod("b")
		b.echo("80")
		sidecar := func(c capture.Config) *testPod {
			p := m.pod("a", func(s *sandbox.PodSpec) { s.Capture = &c })
			_, out := p.start(sandbox.ContainerSpec{Name: "istio-proxy", Sidecar: true, Argv: []string{sandbox.Self, "pod-test", "sidecar"}})
			out.waitFor(m.T, "ready")
			p.echo("8080")
			return p
		}
		captured := func(out string) bool { return strings.HasPrefix(out, "1500") }
		for _, test := range []struct {
			name    string
			config  capture.Config
			out, in bool // whether a connection to b and one to a's 8080 is redirected
		}{
			{"all", capture.Config{}, true, true},
			{"no outbound", capture.Config{NoOutbound: true}, false, true},
			{"no outbound but a port", capture.Config{NoOutbound: true, IncludeOutbound: []uint16{80}}, true, true},
			{"a range that is not asked for", capture.Config{IncludeOutboundCIDRs: []netip.Prefix{router.ServiceCIDR4}}, false, true},
			{"a range that is", capture.Config{IncludeOutboundCIDRs: []netip.Prefix{router.PodCIDR4}}, true, true},
			{"excluded wins", capture.Config{IncludeOutboundCIDRs: []netip.Prefix{router.PodCIDR4}, ExcludeOutboundCIDRs: []netip.Prefix{router.PodCIDR4}}, false, true},
			{"inbound but a port", capture.Config{ExcludeInbound: []uint16{8080}}, true, false},
			{"only another inbound port", capture.Config{IncludeInbound: []uint16{1}}, true, false},
			{"only this inbound port", capture.Config{IncludeInbound: []uint16{8080}}, true, true},
		} {
			a := sidecar(test.config)
			if out := a.ask(join(b.v4, 80)); captured(out) != test.out {
				m.Errorf("%s: outbound: %s, want redirected: %v", test.name, out, test.out)
			}
			if out := b.ask(join(a.v4, 8080)); captured(out) != test.in {
				m.Errorf("%s: inbound: %s, want redirected: %v", test.name, out, test.in)
			}
			a.Kill()
			<-a.Done()
		}
	})
}

// By TPROXY a sidecar stands between a client and its application, and neither sees its address. What is its own, what
// is left out, and what leaves the pod goes as it does by REDIRECT.
func TestTransparentCapture(t *testing.T) {
	inMesh(t, func(m *mesh) {
		b := m.pod("b")
		b.echo("80")
		a := m.pod("a", func(s *sandbox.PodSpec) {
			s.Capture = &capture.Config{Transparent: true, NoOutbound: true, ExcludeInbound: []uint16{8081}}
		})
		_, out := a.start(sandbox.ContainerSpec{Name: "istio-proxy", Sidecar: true, Argv: []string{sandbox.Self, "pod-test", "between"}})
		out.waitFor(m.T, "ready")
		a.echo("8080")
		_, second := a.start(sandbox.ContainerSpec{Name: "second", Argv: []string{sandbox.Self, "pod-test", "serve", "8081", "a"}})
		second.waitFor(m.T, "ready")
		for _, ip := range []struct{ of, client netip.Addr }{{a.v4, b.v4}, {a.v6, b.v6}} {
			for range 20 {
				to := join(ip.of, 8080)
				if got, want := b.ask(to), "for "+to+": a saw "+ip.client.String(); got != want {
					m.Errorf("b asks %s: %q, want %q", to, got, want)
				}
			}
			if got, want := b.ask(join(ip.of, 8081)), "a saw "+ip.client.String(); got != want {
				m.Errorf("a port that is left out: %q, want %q", got, want)
			}
		}
		if got := a.ask(join(b.v4, 80)); !strings.HasPrefix(got, "b saw "+a.v4.String()) {
			m.Errorf("a asks b: %q, want b's answer", got)
		}
	})
}

// Rules that grew by changes are those that are made at once, and nothing is
// left of services that went.
func TestServiceChangesAddUp(t *testing.T) {
	needTool(t, "nft", "nftables")
	inMesh(t, func(m *mesh) {
		dump := func() string {
			out, err := exec.Command("nft", "-s", "list", "ruleset").CombinedOutput()
			if err != nil {
				m.Fatalf("%v: %s", err, out)
			}
			// The order of chains and elements is that of their making.
			words := strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' || r == ',' || r == '\t' })
			for i := range words {
				words[i] = strings.TrimSpace(strings.TrimSuffix(strings.TrimPrefix(words[i], "elements = { "), " }"))
			}
			slices.Sort(words)
			return strings.Join(words, "\n")
		}
		empty := dump()
		random := rand.New(rand.NewPCG(1, 2))
		var services []router.Service
		for range 25 {
			services = nil
			for i := range 12 {
				s := router.Service{Namespace: "ns", Name: fmt.Sprint(i), ClusterIPs: []netip.Addr{
					netip.AddrFrom4([4]byte{10, 96, 3, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00:6d61:6c6c:2::3:%x", i)),
				}}
				for port := range random.IntN(3) {
					p := router.ServicePort{Port: uint16(80 + port), Protocol: []string{"TCP", "UDP", ""}[random.IntN(3)]}
					for e := range random.IntN(4) {
						p.Endpoints = append(p.Endpoints, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(e)}), 80),
							netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("fd00:6d61:6c6c:1::%x", e)), 80))
					}
					s.Ports = append(s.Ports, p)
				}
				services = append(services, s)
			}
			if err := m.router.SetServices(services); err != nil {
				m.Fatal(err)
			}
		}
		grown := dump()
		if err := m.router.SetServices(nil); err != nil {
			m.Fatal(err)
		}
		want(m, "after all services went", dump(), empty)
		if err := m.router.SetServices(services); err != nil {
			m.Fatal(err)
		}
		want(m, "made at once", dump(), grown)
	})
}
