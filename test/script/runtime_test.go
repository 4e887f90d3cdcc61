//go:build linux

package script_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/busy"
	"github.com/mallamesh/malla/test/script/mesh"
)

// Root is not needed: the same mesh for an ordinary user.
func TestAnOrdinaryUser(t *testing.T) {
	linux(t)
	if os.Getuid() != 0 {
		t.Skip("every test here is run by an ordinary user already")
	}
	// The files must be readable for that user: t.TempDir is not.
	dir, err := os.MkdirTemp("", "files")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "web.yaml"), deployment("web", httpbinImage)+service("web", 80, 80)+gateway80+
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n")
	bin := filepath.Join(dir, "malla")
	copyFile(t, bin, mesh.Binary(t))
	m := mesh.Up(t, mesh.Options{Name: "user", Paths: []string{dir}, User: 65534, Bin: bin, Env: []string{"HOME=/nonexistent"}})
	c := mesh.Client(3 * time.Second)
	mesh.Until(t, 10*time.Second, "an answer", func() error {
		a, err := mesh.Get(c, m.URL("/get"))
		if err == nil {
			err = mesh.OK(a)
		}
		return err
	})
	words(t, "get pods", m.Must("get", "pods"), "2/2")
	r := m.Exec("deploy/web", "app", "sh", "-c", "id -u; grep CapEff /proc/self/status")
	words(t, "in the pod", r.Out, "65534", "0000000000000000")
	for _, p := range m.Tree() {
		if info, err := os.Stat(fmt.Sprintf("/proc/%d", p.PID)); err == nil {
			if uid := owner(info); uid != 65534 && uid != 0 { // a process without a dump is shown as root's
				t.Errorf("%v is run by %d", p, uid)
			}
		}
	}
	keptIn(t, m)
	bothLoopbacks(t, m)
	tree := m.Tree()
	if r := m.Stop(); r.Code != 0 {
		t.Fatalf("stop: %s", r)
	}
	gone(t, m, tree)
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}

// `go run` deletes its binary: children must start all the same.
func TestTheBinaryMayVanish(t *testing.T) {
	linux(t)
	bin := filepath.Join(t.TempDir(), "malla")
	copyFile(t, bin, mesh.Binary(t))
	dir := dirOf(t, map[string]string{"web.yaml": deployment("web", httpbinImage)})
	m := mesh.New(t, mesh.Options{Name: "vanish", Bin: bin})
	m.Start(mesh.Options{Paths: []string{dir}})
	if m.Up.Code != 0 {
		t.Fatalf("up: %s", m.Up)
	}
	if err := os.Remove(bin); err != nil {
		t.Fatal(err)
	}
	m.Bin = mesh.Binary(t)
	m.Must("scale", "deployment", "web", "--replicas=2")
	m.Rollout("web")
	r := m.Exec(m.Pods("app=web")[0], "app", "/malla", "version")
	if r.Code != 0 {
		t.Errorf("our own program in a pod: %s", r)
	}
}

func TestLivesOfPods(t *testing.T) {
	linux(t)
	shell := func(name, script string, more ...string) string {
		return "\n---" + deployment(name, "curlimages/curl", append([]string{"        command: [sh, -c, '" + script + "']"}, more...)...)
	}
	dir := dirOf(t, map[string]string{"pods.yaml": shell("ends", `trap "echo told to end; exit 0" TERM; echo up; while :; do sleep 0.1; done`,
		`        lifecycle: {preStop: {exec: {command: [sh, -c, "echo before the end > /proc/1/fd/1 || true; touch /tmp/prestop; sleep 0.3"]}}}`) +
		shell("deaf", `trap "" TERM; echo up; while :; do sleep 0.1; done`) +
		shell("sick", `touch /tmp/well; sleep 1000`, `        livenessProbe: {exec: {command: [cat, /tmp/well]}, periodSeconds: 1, failureThreshold: 1}`) +
		"\n---" + deployment("probed", httpbinImage,
		`        readinessProbe: {httpGet: {path: /status/200, port: 80}, periodSeconds: 1}`,
		`        livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}`) +
		"\n---" + deployment("healthy", "example.com/health",
		`        env: [{name: `+envHealth+`, value: "1"}]`,
		`        readinessProbe: {grpc: {port: 50051, service: shop}, periodSeconds: 1, failureThreshold: 1}`,
		`        livenessProbe: {grpc: {port: 50051}, periodSeconds: 1, failureThreshold: 1}`) + service("healthy", 50051, 50051) +
		shell("orphans", `(sleep 0.2 & ) ; sleep 1000`) + `
---
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec:
  restartPolicy: Never
  containers: [{name: app, image: curlimages/curl, command: [sh, -c, "echo done; exit 0"]}]
`})
	m := mesh.Up(t, mesh.Options{Name: "lives", Paths: []string{dir}, Flags: []string{"--image", healthImage(t)}})

	t.Run("a pod that is deleted hears of it and may end", func(t *testing.T) {
		m := m.In(t)
		pod := m.Pod("app=ends")
		log := &lockedBuffer{}
		cmd := m.Command(t.Context(), "logs", "-f", pod)
		cmd.Stdout = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		mesh.Until(t, 5*time.Second, "the log", func() error {
			if log.String() != "up\n" {
				return fmt.Errorf("%q", log)
			}
			return nil
		})
		start := time.Now()
		m.Must("delete", "pod", pod)
		if took := time.Since(start); took < 300*time.Millisecond {
			t.Errorf("gone after %v: preStop was not waited for", took)
		}
		mesh.Until(t, 5*time.Second, "its last words", func() error {
			if !strings.Contains(log.String(), "told to end") {
				return fmt.Errorf("%q", log)
			}
			return nil
		})
		_ = cmd.Wait()
	})
	t.Run("one that does not listen is killed after its grace period", func(t *testing.T) {
		m := m.In(t)
		pod := m.Pod("app=deaf")
		busy.Record()
		start := time.Now()
		m.Must("delete", "pod", pod)
		took, held := time.Since(start), busy.Held(start, time.Now())
		if took < 900*time.Millisecond || took-held > 4*time.Second {
			t.Errorf("gone after %v, of which others had %v; want its terminationGracePeriodSeconds of 1", took, held)
		}
	})
	t.Run("a liveness probe that fails is a restart", func(t *testing.T) {
		m := m.In(t)
		pod := m.Pod("app=sick")
		m.Exec(pod, "app", "rm", "/tmp/well")
		mesh.Until(t, 10*time.Second, "a restart", func() error {
			if n := m.Field("pod/"+pod, ".status.containerStatuses[0].restartCount"); n == "0" {
				return fmt.Errorf("%s", m.Must("get", "pods"))
			}
			return nil
		})
		words(t, "describe", m.Must("describe", "pod", pod), "Liveness probe failed")
	})
	t.Run("a gRPC probe asks for a service's health", func(t *testing.T) { grpcProbe(t, m.In(t)) })
	t.Run("process 1 of a pod reaps", func(t *testing.T) {
		m := m.In(t)
		r := m.Exec(m.Pod("app=orphans"), "app", "sh", "-c", "sleep 0.5; ps -eo stat= 2>/dev/null | grep -c Z; true")
		if strings.TrimSpace(r.Out) != "0" {
			t.Errorf("zombies: %s", r)
		}
	})
	t.Run("a pod that is to run once has ended", func(t *testing.T) {
		m := m.In(t)
		mesh.Until(t, 5*time.Second, "Completed", func() error {
			if out := m.Must("get", "pod", "alone"); !strings.Contains(out, "Completed") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		if out := m.Must("logs", "alone"); out != "done\n" {
			t.Errorf("its log is %q", out)
		}
	})
	t.Run("kubeconfig is for other programs", func(t *testing.T) {
		m := m.In(t)
		file := filepath.Join(t.TempDir(), "config")
		write(t, file, m.Must("kubeconfig"))
		cmd := m.Command(t.Context(), "--kubeconfig", file, "get", "pods", "-o", "name")
		cmd.Args = append(cmd.Args[:1], cmd.Args[3:]...) // no --mesh
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "pod/probed-") {
			t.Errorf("get pods by kubeconfig: %v: %s", err, out)
		}
		cmd = m.Command(t.Context(), "get", "pods", "-o", "name")
		cmd.Args = append(cmd.Args[:1], cmd.Args[3:]...)
		cmd.Env = append(cmd.Env, "MALLA_MESH=lives")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "pod/probed-") {
			t.Errorf("get pods by MALLA_MESH: %v: %s", err, out)
		}
	})
}

// Services of type NodePort and LoadBalancer are offered on this machine, and a
// gateway may be the user's own.
func TestWaysIn(t *testing.T) {
	linux(t)
	own := `
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: my-gateway}
spec:
  selector: {matchLabels: {istio: my-gateway}}
  template:
    metadata:
      labels: {istio: my-gateway, sidecar.istio.io/inject: "true"}
      annotations: {inject.istio.io/templates: gateway}
    spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: v1
kind: Service
metadata: {name: my-gateway}
spec: {type: LoadBalancer, selector: {istio: my-gateway}, ports: [{name: http, port: 8085, targetPort: 8085}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: mine}
spec:
  selector: {istio: my-gateway}
  servers: [{port: {number: 8085, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mine}
spec:
  hosts: ["*"]
  gateways: [mine]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
`
	direct := func(name, typ string, port int) string {
		return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {type: %s, selector: {app: web}, ports: [{name: http, port: %d, targetPort: 80}]}\n", name, typ, port)
	}
	dir := dirOf(t, map[string]string{"all.yaml": deployment("web", httpbinImage) + service("web", 80, 80) + own + direct("lb", "LoadBalancer", 8086) + direct("np", "NodePort", 8087)})
	m := mesh.Up(t, mesh.Options{Name: "waysin", Paths: []string{dir}, Publish: []int{8085, 8086}})
	c := mesh.Client(3 * time.Second)
	answers := func(t *testing.T, url string) {
		t.Helper()
		mesh.Until(t, 10*time.Second, url, func() error {
			a, err := mesh.Get(c, url)
			if err == nil {
				err = mesh.OK(a)
			}
			return err
		})
	}
	t.Run("a gateway of the user's own", func(t *testing.T) { answers(t, fmt.Sprintf("http://127.0.0.1:%d/get", m.Port(8085))) })
	t.Run("the default gateway is not added beside it", func(t *testing.T) {
		if out := m.In(t).Must("get", "pods", "-A"); strings.Contains(out, "istio-ingressgateway") {
			t.Errorf("%s", out)
		}
	})
	t.Run("LoadBalancer", func(t *testing.T) { answers(t, fmt.Sprintf("http://127.0.0.1:%d/get", m.Port(8086))) })
	t.Run("NodePort", func(t *testing.T) {
		port := m.In(t).Field("service/np", ".spec.ports[0].nodePort")
		found := regexp.MustCompile(`default/np\b.*(http://)?127\.0\.0\.1:(\d+)`).FindStringSubmatch(m.Up.Out)
		if found == nil {
			t.Fatalf("the table does not say where:\n%s", m.Up.Out)
		}
		if found[2] != port && !strings.Contains(found[0], "in use") {
			t.Errorf("offered on %s, want its nodePort %s", found[2], port)
		}
		answers(t, "http://127.0.0.1:"+found[2]+"/get")
	})
}
