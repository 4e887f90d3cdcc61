//go:build linux

package script_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// TestGatewayAPI is Bookinfo by Gateway API: a Gateway has proxies of its own for as long
// as it is there, and routes decide for the clients of a service.
func TestGatewayAPI(t *testing.T) {
	linux(t)
	m := mesh.Up(t, mesh.Options{Name: "gatewayapi", Paths: []string{mesh.Samples(t, "bookinfo", "gateway-api")}, Publish: []int{80, 8081}})
	page := fmt.Sprintf("http://127.0.0.1:%d/productpage", m.Port(80))

	// up waited for the Gateway and says where it is; its status says so too.
	words(t, "up", m.Up.Out, "default/bookinfo-gateway-istio", fmt.Sprintf("http://127.0.0.1:%d/productpage", m.Port(80)))
	words(t, "get gateway", m.Must("get", "gateway"), "gateway.gateway.networking.k8s.io/bookinfo-gateway", "istio", "127.0.0.1", "True")
	words(t, "get gateway NAME", m.Must("get", "gateways.gateway.networking.k8s.io", "bookinfo-gateway", "-o", "yaml"),
		"attachedRoutes: 1", "observedGeneration: 1", "reason: Programmed", "lastTransitionTime: ")
	const old = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: old}\nspec: {selector: {istio: nobody}, servers: [{port: {number: 9001, name: http, protocol: HTTP}, hosts: ['*']}]}\n"
	m.Apply(old)
	words(t, "get gateway of both kinds", m.Must("get", "gateway"), "gateway.gateway.networking.k8s.io/bookinfo-gateway", "gateway.networking.istio.io/old")
	m.Delete(old)
	words(t, "get gc", m.Must("get", "gc"), "istio.io/gateway-controller", "malla.dev/gateway-controller")
	words(t, "labels", m.Must("get", "deploy,svc,sa", "-l", "gateway.networking.k8s.io/gateway-name=bookinfo-gateway,gateway.networking.k8s.io/gateway-class-name=istio", "-o", "name"),
		"deployment.apps/bookinfo-gateway-istio", "service/bookinfo-gateway-istio", "serviceaccount/bookinfo-gateway-istio")
	if code, _ := fetch(page); code != http.StatusOK {
		t.Fatalf("the page: %d", code)
	}
	if code, _ := fetch(strings.Replace(page, "productpage", "nowhere", 1)); code != http.StatusNotFound {
		t.Errorf("a path without a route: %d, want 404", code)
	}

	// A route at a Service is for its clients in the mesh.
	m.Must("apply", "-f", mesh.Samples(t, "bookinfo", "gateway-api", "tasks", "all-v1.yaml"))
	mesh.Until(t, 15*time.Second, "nothing but version 1", func() error {
		for range 8 {
			if _, body := fetch(page); !strings.Contains(body, "reviews-v1-") {
				return fmt.Errorf("answered by %q", regexp.MustCompile(`reviews-v\d-\w*`).FindString(body))
			}
		}
		return nil
	})

	// A listener more is a port more, on the same proxies.
	pods := m.Must("get", "pods", "-l", "gateway.networking.k8s.io/gateway-name=bookinfo-gateway", "-o", "name")
	m.Must("patch", "gtw", "bookinfo-gateway", "--type=json", "-p", `[{"op":"add","path":"/spec/listeners/-","value":{"name":"more","port":8081,"protocol":"HTTP"}}]`)
	mesh.Until(t, 15*time.Second, "the new port answers", func() error {
		if code, _ := fetch(fmt.Sprintf("http://127.0.0.1:%d/productpage", m.Port(8081))); code != http.StatusOK {
			return fmt.Errorf("answered %d", code)
		}
		return nil
	})
	if now := m.Must("get", "pods", "-l", "gateway.networking.k8s.io/gateway-name=bookinfo-gateway", "-o", "name"); now != pods {
		t.Errorf("pods before %s, and after a listener was added %s", pods, now)
	}

	// Of another class it has other proxies, at the same port of this machine.
	m.Must("patch", "gtw", "bookinfo-gateway", "--type=merge", "-p", `{"spec":{"gatewayClassName":"malla"}}`)
	mesh.Until(t, 15*time.Second, "the proxies of the other class answer at the port of the first", func() error {
		urls := m.Must("urls")
		if !strings.Contains(urls, "default/bookinfo-gateway-malla") || strings.Contains(urls, "bookinfo-gateway-istio") || strings.Contains(urls, "was in use") {
			return fmt.Errorf("malla urls: %s", urls)
		}
		if code, _ := fetch(page); code != http.StatusOK {
			return fmt.Errorf("answered %d", code)
		}
		return nil
	})
	m.Must("patch", "gtw", "bookinfo-gateway", "--type=json", "-p", `[{"op":"remove","path":"/spec/listeners/1"}]`)
	mesh.Until(t, 5*time.Second, "the port of a listener that is gone refuses", func() error {
		if code, text := fetch(fmt.Sprintf("http://127.0.0.1:%d/productpage", m.Port(8081))); !strings.Contains(text, "refused") {
			return fmt.Errorf("answered %d, %s", code, text)
		}
		return nil
	})
	m.Must("patch", "gtw", "bookinfo-gateway", "--type=merge", "-p", `{"spec":{"gatewayClassName":"nginx"}}`)
	mesh.Until(t, 15*time.Second, "STATUS says that nobody serves the class", func() error {
		if got := m.Must("get", "gtw", "bookinfo-gateway"); !strings.Contains(got, `no controller for class "nginx"`) || !strings.Contains(got, "istio, malla") {
			return fmt.Errorf("get: %s", got)
		}
		return nil
	})
	m.Must("patch", "gtw", "bookinfo-gateway", "--type=merge", "-p", `{"spec":{"gatewayClassName":"malla"}}`)

	// What it had goes with it.
	m.Must("delete", "gtw", "bookinfo-gateway")
	mesh.Until(t, 15*time.Second, "its workload is gone", func() error {
		if left := m.Must("get", "deploy,svc,sa,pods", "-l", "gateway.networking.k8s.io/gateway-name=bookinfo-gateway", "-o", "name"); strings.TrimSpace(left) != "" {
			return fmt.Errorf("still there: %s", left)
		}
		return nil
	})
	words(t, "the route without its Gateway", m.Must("get", "httproute", "bookinfo", "-o", "yaml"), "parents: []")
	words(t, "its STATUS", m.Must("get", "httproute", "bookinfo"), "none of its parents has taken it: Gateway bookinfo-gateway")
	if code, text := fetch(page); !strings.Contains(text, "refused") {
		t.Errorf("the port of a Gateway that is gone answers %d, %s", code, text)
	}
}

// fetch returns the answer's status, 0 for none, and body.
func fetch(url string) (int, string) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}
