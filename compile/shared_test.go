package compile_test

import (
	"strings"
	"testing"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/model"
)

// compiled compiles what was not validated before, and returns what authors are told.
func compiled(t *testing.T, text string) (*model.Mesh, string) {
	t.Helper()
	cfg := model.DefaultMeshConfig()
	gateway := &model.Workload{Name: "gateway", Namespace: "istio-system", Labels: map[string]string{"istio": "ingressgateway"}}
	m, problems := compile.Mesh(config.Objects(objects(t, text)...), &cfg, &model.Registry{Workloads: []*model.Workload{gateway}, Services: []*model.Service{service("shop", model.Port{Number: 80, Protocol: model.HTTP})}}, nil)
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.Error.Error())
	}
	return m, strings.Join(lines, "\n")
}

// Servers of all Gateways share a port's listener, which Envoy refuses whole: what it would not take is
// left out alone, and its author is told.
func TestServersThatWouldBreakAListener(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	m, told := compiled(t, `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: prod}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: a, protocol: HTTPS}, hosts: [good.example.com], tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, verifyCertificateHash: [`+sum+`]}}
  - {port: {number: 443, name: b, protocol: HTTPS}, hosts: [b.example.com], tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, verifyCertificateHash: [`+sum+`00]}}
  - {port: {number: 443, name: c, protocol: HTTPS}, hosts: [c.example.com], tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /ca, verifyCertificateSpki: [abc]}}
  - {port: {number: 443, name: d, protocol: HTTPS}, hosts: [a.*.com], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}
  - {port: {number: 443, name: e, protocol: HTTPS}, hosts: ["prod/*.*"], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}
  - {port: {number: 443, name: f, protocol: TLS}, hosts: ["*x.com"], tls: {mode: PASSTHROUGH}}
  - {port: {number: 80, name: g, protocol: HTTP}, bind: here, hosts: ["*"]}
`)
	want := strings.Join([]string{
		`Gateway prod/edge: spec.servers[1].tls.verifyCertificateHash[0]: is "` + sum + `00", want a SHA-256 in hex`,
		`Gateway prod/edge: spec.servers[2].tls.verifyCertificateSpki[0]: is "abc", want a SHA-256 in base64`,
		`Gateway prod/edge: spec.servers[3].hosts[0]: is "a.*.com", want [namespace/]host, maybe with *. in front of the host, or * for any`,
		`Gateway prod/edge: spec.servers[4].hosts[0]: is "prod/*.*", want [namespace/]host, maybe with *. in front of the host, or * for any`,
		`Gateway prod/edge: spec.servers[5].hosts[0]: is "*x.com", want [namespace/]host, maybe with *. in front of the host, or * for any`,
		`Gateway prod/edge: spec.servers[6].bind: is "here", want an IP address`,
	}, "\n")
	if told != want {
		t.Errorf("told\n%s\nwant\n%s", told, want)
	}
	if len(m.Gateways) != 1 || len(m.Gateways[0].Servers) != 1 || m.Gateways[0].Servers[0].PortName != "a" {
		t.Errorf("gateways %+v, want one with the good server", m.Gateways)
	}
}

// Ingresses of everybody share a listener and its routes: of one that was not validated what Envoy
// would not take is left out, and the rest is served.
func TestIngressesThatWouldBreakAListener(t *testing.T) {
	m, told := compiled(t, `
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: prod}
type: kubernetes.io/tls
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: prod}
spec:
  ingressClassName: istio
  tls: [{hosts: [a.*.com, good.example.com, ""], secretName: cert}]
  rules:
  - host: good.example.com
    http:
      paths:
      - {path: /good, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: "/bad?x", pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: "/bad#x", pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: bad, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}
      - {path: "/exact?x", pathType: Exact, backend: {service: {name: shop, port: {number: 80}}}}
  - host: a.*.com
    http: {paths: [{path: /bad, pathType: Prefix, backend: {service: {name: shop, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rewrite, namespace: prod, annotations: {nginx.ingress.kubernetes.io/rewrite-target: "/a\nb"}}
spec:
  ingressClassName: istio
  rules: [{host: good.example.com, http: {paths: [{path: /rewritten, pathType: Exact, backend: {service: {name: shop, port: {number: 80}}}}]}}]
`)
	for _, want := range []string{
		`Ingress prod/shop: spec.tls[0].hosts[0]: is "a.*.com", want a host, maybe with *. in front: it is left out`,
		`Ingress prod/shop: spec.tls[0].hosts[2]: is "", want a host, maybe with *. in front: it is left out`,
		`Ingress prod/shop: spec.rules[0].http.paths[1].path: is "/bad?x", want a path that begins with /, without ? and #: it is left out`,
		`Ingress prod/shop: spec.rules[0].http.paths[2].path: is "/bad#x", want a path that begins with /, without ? and #: it is left out`,
		`Ingress prod/shop: spec.rules[0].http.paths[3].path: is "bad", want a path that begins with /, without ? and #: it is left out`,
		`Ingress prod/shop: spec.rules[1].host: is "a.*.com", want a host, maybe with *. in front: it is left out`,
		`the target "/a\nb" has a line break`,
	} {
		if !strings.Contains(told, want) {
			t.Errorf("nobody is told\n%s\nbut\n%s", want, told)
		}
	}
	var hosts, paths []string
	for _, g := range m.Gateways {
		for _, s := range g.Servers {
			for _, h := range s.Hosts {
				hosts = append(hosts, h.Name)
			}
		}
	}
	for _, r := range m.Rules {
		for _, h := range r.HTTP {
			paths = append(paths, r.Hosts[0]+h.Matches[0].URI.Value)
		}
	}
	if got, want := strings.Join(hosts, " "), "* good.example.com"; got != want {
		t.Errorf("hosts of servers are %q, want %q", got, want)
	}
	if got, want := strings.Join(paths, " "), "good.example.com/exact?x good.example.com/good"; got != want {
		t.Errorf("paths are %q, want %q", got, want)
	}
}

// What is wrong with a server that Ingresses ask for is said on the Ingresses, since no Gateway stands for it.
func TestIngressesAreToldOfTheirServers(t *testing.T) {
	_, told := compiled(t, `
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: istio-system}
type: kubernetes.io/tls
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: old, namespace: prod, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: a, protocol: HTTPS}, hosts: [shop.example.com], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}
  - {port: {number: 80, name: b, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: prod, creationTimestamp: "2026-02-01T00:00:00Z"}
spec: {ingressClassName: istio, tls: [{hosts: [x.example.com], secretName: cert}, {hosts: [shop.example.com], secretName: cert}], rules: [{host: shop.example.com}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: other, namespace: prod, creationTimestamp: "2026-03-01T00:00:00Z"}
spec: {ingressClassName: istio, tls: [{hosts: [late.example.com], secretName: cert}], rules: [{host: late.example.com}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: young, namespace: prod, creationTimestamp: "2026-04-01T00:00:00Z"}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [late.example.com], tls: {mode: SIMPLE, serverCertificate: /c, privateKey: /k}}]}
`)
	for _, want := range []string{
		`Ingress prod/shop: spec: the server of port 80 speaks HTTP, but Gateway prod/old, which is older, speaks TCP there: it is left out`,
		`Ingress prod/other: spec: the server of port 80 speaks HTTP, but Gateway prod/old, which is older, speaks TCP there: it is left out`,
		`Ingress prod/shop: spec.tls[1]: TLS to port 443 for shop.example.com belongs to Gateway prod/old, which is older: the server is left out`,
		`Gateway prod/young: spec.servers[0].hosts: TLS to port 443 for late.example.com belongs to Ingress prod/other, which is older: the server is left out`,
	} {
		if !strings.Contains(told, want) {
			t.Errorf("nobody is told\n%s\nbut\n%s", want, told)
		}
	}
	if strings.Contains(told, "~ingress") {
		t.Errorf("told of what does not exist:\n%s", told)
	}
}

// An Ingress of another controller's class is no news; one of a class that nobody has is.
func TestIngressesOfOthers(t *testing.T) {
	_, told := compiled(t, `
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: theirs, namespace: prod}
spec: {ingressClassName: nginx, defaultBackend: {service: {name: shop, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: misspelled, namespace: prod}
spec: {ingressClassName: ngnix, defaultBackend: {service: {name: shop, port: {number: 80}}}}
`)
	if want := `Ingress prod/misspelled: spec.ingressClassName: no controller for class "ngnix": there is no such IngressClass, and nobody serves it; classes here: istio, malla`; told != want {
		t.Errorf("told\n%s\nwant\n%s", told, want)
	}
}
