//go:build linux

package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/dynamic"

	"github.com/mallamesh/malla/cli"
	"github.com/mallamesh/malla/local/broker"
)

// URLs prints where a running mesh can be reached from this machine by now: ports that a
// Gateway or Service got after the start are there, too.
func URLs(ctx context.Context, o cli.URLsOptions) error {
	dir, err := dirOf(o.Mesh)
	if err != nil {
		return err
	}
	if !dir.running() {
		return cli.Hint(fmt.Errorf("mesh %q does not run", o.Mesh), "malla %sup DIR", meshFlag(o.Mesh))
	}
	var offered []broker.Published
	text, err := os.ReadFile(dir.path(filePorts))
	if err == nil {
		err = json.Unmarshal(text, &offered)
	}
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("read the open ports: %w", err)
	}
	token, err := dir.token()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(clientOf(dir.path(fileAPI), token))
	if err != nil {
		return err
	}
	links := (&state{dynamic: client}).links(ctx, offered)
	if len(links) == 0 {
		fmt.Fprintln(o.Out, "Nothing is offered on this machine: a Gateway, or a Service of type LoadBalancer or NodePort, would be.")
		return nil
	}
	cli.Links(o.Out, links)
	return nil
}

// links are the URLs of what is offered on this machine.
func (s *state) links(ctx context.Context, offered []broker.Published) []cli.Link {
	paths, schemes, servers := s.paths(ctx), s.schemes(ctx), s.servers(ctx)
	var links []cli.Link
	slices.SortFunc(offered, byInterest)
	for _, pub := range offered {
		if ownPort(pub) {
			continue
		}
		scheme, at := "http", ""
		server := servers[pub.Port]
		edge := gateway(pub) || paths.made(pub.Owner)
		if !edge {
			server = serverPort{}
		}
		switch said := schemes[servicePort{pub.Owner, pub.Port}]; {
		case server.tcp:
			scheme = "tcp"
		case pub.Port == 443 || pub.Port == 8443 || server.tls:
			scheme = "https"
		case said != "" && !(said == "tcp" && edge): // what a gateway's Gateways say counts
			scheme = said
		}
		host := ""
		if edge && scheme != "tcp" {
			first := paths.first(pub.Port)
			host = cmp.Or(server.host, first.host)
			if scheme == "http" {
				at = first.path
			}
		}
		what := pub.Owner
		if pub.Wanted.IsValid() && pub.Wanted != pub.Host {
			what += fmt.Sprintf(" (port %d was in use)", pub.Wanted.Port())
		}
		links = append(links, cli.Link{What: what, URL: scheme + "://" + pub.Host.String() + at, Host: host})
	}
	return links
}

// ownPort reports whether a port is a proxy's own.
func ownPort(p broker.Published) bool { return p.Port >= 15000 && p.Port < 15100 }

func gateway(p broker.Published) bool { return strings.Contains(p.Owner, "gateway") }

// byInterest puts first what people look at first: gateways, then the ports that
// Services are known by, then their node ports.
func byInterest(a, b broker.Published) int {
	rank := func(p broker.Published) int {
		switch {
		case gateway(p):
			return 0
		case p.Port < firstNodePort:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Host.Compare(b.Host))
}

// firstNodePort is the first of the ports that node ports are taken from.
const firstNodePort = 30000

// oneHost is a host that a list of hosts takes, "" if it takes every one.
func oneHost(hosts []string) string {
	if len(hosts) == 0 || slices.ContainsFunc(hosts, func(h string) bool { return h == "*" || strings.HasSuffix(h, "/*") }) {
		return ""
	}
	_, host, found := strings.Cut(hosts[0], "/") // of Istio's servers: NAMESPACE/HOST
	if !found {
		host = hosts[0]
	}
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		return "www." + rest
	}
	return host
}
