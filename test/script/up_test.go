//go:build linux

package script_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// deployment is a small application without a sidecar.
func deployment(name, image string, more ...string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: 1
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: %[2]s
%[3]s`, name, image, strings.Join(more, "\n"))
}

const httpbinImage = "kong/httpbin"

func service(name string, port, target int) string {
	return fmt.Sprintf("\n---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: %s}, ports: [{name: http, port: %d, targetPort: %d}]}\n", name, name, port, target)
}

const gateway80 = `
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: ["*"]
  gateways: [web]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
`

// dirOf makes a directory of manifests.
func dirOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, text)
	}
	return dir
}

func TestTwoMeshesSideBySide(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"web.yaml": deployment("web", httpbinImage) + service("web", 80, 80) + gateway80})
	one := mesh.Up(t, mesh.Options{Name: "one", Paths: []string{dir}})

	// The second wants the first one's port, in the same state directory.
	two := mesh.New(t, mesh.Options{Name: "two", Home: one.Home, Publish: []int{}})
	two.Up = two.RunIn(time.Minute, "", "up", "--detach", "--publish", fmt.Sprintf("%d:80", one.Port(80)), dir)
	if two.Up.Code != 0 {
		t.Fatalf("the second mesh: %s\n%s", two.Up, two.Log())
	}
	words(t, "the table of the second", two.Up.Out, fmt.Sprintf("port %d was in use", one.Port(80)))
	found := regexp.MustCompile(`http://127\.0\.0\.1:(\d+)`).FindStringSubmatch(two.Up.Out)
	if found == nil {
		t.Fatalf("no URL in:\n%s", two.Up.Out)
	}
	port, _ := strconv.Atoi(found[1])
	if port <= one.Port(80) || port > one.Port(80)+200 {
		t.Errorf("the second gateway is at %d, want the next free port after %d", port, one.Port(80))
	}
	c := mesh.Client(3 * time.Second)
	hosts := map[string]string{}
	for name, url := range map[string]string{"one": one.URL("/hostname"), "two": fmt.Sprintf("http://127.0.0.1:%d/hostname", port)} {
		mesh.Until(t, 5*time.Second, name, func() error {
			a, err := mesh.Get(c, url)
			if err == nil {
				err = mesh.OK(a)
			}
			hosts[name] = a.Body
			return err
		})
	}
	if hosts["one"] == hosts["two"] {
		t.Errorf("both answer as %s", hosts["one"])
	}
	// A verb acts on the mesh that is named, by flag or by variable.
	two.Must("scale", "deployment", "web", "--replicas=0")
	mesh.Until(t, 10*time.Second, "no pods in the second", func() error {
		if pods := two.Pods("app=web"); len(pods) != 0 {
			return fmt.Errorf("%v", pods)
		}
		return nil
	})
	if pods := one.Pods("app=web"); len(pods) != 1 {
		t.Errorf("the first mesh has %v", pods)
	}
	if r := two.Stop(); r.Code != 0 {
		t.Errorf("stop: %s", r)
	}
	if a, err := mesh.Get(c, one.URL("/hostname")); err != nil || a.Body != hosts["one"] {
		t.Errorf("the first mesh after the second has gone: %v, %v", a, err)
	}
	r := one.Run("up", "--detach", dir)
	if r.Code != 1 || !strings.Contains(r.Err, "running already") {
		t.Errorf("up twice: %s", r)
	}
}

func TestUpSaysWhatIsNotReadyAndWhy(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{
		"unknown.yaml": deployment("mystery", "example.com/mystery:1"),
		"crash.yaml":   deployment("crash", "curlimages/curl", `        command: [sh, -c, "echo going down; exit 3"]`),
		"probe.yaml":   deployment("probe", "curlimages/curl", `        command: [sleep, infinity]`, `        readinessProbe: {exec: {command: ["false"]}, periodSeconds: 1}`),
		"fine.yaml":    deployment("fine", "curlimages/curl", `        command: [sleep, infinity]`),
	})
	m := mesh.New(t, mesh.Options{Name: "unready"})
	m.Start(mesh.Options{Paths: []string{dir}, Limit: 100 * time.Second})
	if m.Up.Code != 1 {
		t.Fatalf("up --detach: %s, want exit 1", m.Up)
	}
	words(t, "up", m.Up.Out+m.Up.Err, "mystery-", `--image 'example.com/mystery:1=COMMAND'`, "crash-", "exit", "probe-", "exited with status 1")
	if regexp.MustCompile(`(?m)^malla: error:.*fine-`).MatchString(m.Up.Err) {
		t.Errorf("fine is told to be unready: %s", m.Up.Err)
	}
}

func TestManifests(t *testing.T) {
	linux(t)
	bad := `apiVersion: v1
kind: Service
metadata:
  name: typo
spec:
  selectr: {app: x}
  ports:
  - port: 80
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: zero
spec:
  hosts: [web]
  http:
  - route:
    - destination: {host: web}
      weight: -1
---
apiVersion: example.com/v1
kind: Gizmo
metadata:
  name: unknown
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: later
spec: {}
`
	dir := dirOf(t, map[string]string{
		"web.yaml": deployment("web", httpbinImage,
			`        resources: {limits: {cpu: 100m}}`, `        imagePullPolicy: Always`, `        securityContext: {runAsNonRoot: true}`,
			`        env:`,
			`        - {name: PLAIN, value: "1"}`,
			`        - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}`,
			`        - {name: FROM_MAP, valueFrom: {configMapKeyRef: {name: settings, key: color}}}`,
			`        - {name: FROM_SECRET, valueFrom: {secretKeyRef: {name: keys, key: token}}}`,
			`        volumeMounts: [{name: settings, mountPath: /etc/settings}, {name: keys, mountPath: /opt/keys}, {name: scratch, mountPath: /scratch}]`,
			`      initContainers: [{name: first, image: curlimages/curl, command: [sh, -c, "echo made by init > /scratch/init"], volumeMounts: [{name: scratch, mountPath: /scratch}]}]`,
			`      volumes: [{name: settings, configMap: {name: settings}}, {name: keys, secret: {secretName: keys}}, {name: scratch, emptyDir: {}}]`) +
			service("web", 80, 80) + gateway80 + `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 3}
`,
		"bad.yml":          bad,
		"more.json":        `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"from-json"}}`,
		"below/below.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-below}\n",
		"notes.txt":        "not a manifest",
	})
	m := mesh.New(t, mesh.Options{Name: "manifests"})
	m.Start(mesh.Options{Paths: []string{dir}})
	printed := m.Up.Out + m.Up.Err + m.Log()

	t.Run("refused: file, line, field, what was found", func(t *testing.T) {
		for _, want := range [][]string{
			{"bad.yml:6", "spec.selectr"},
			{"bad.yml:19", "spec.http[0].route[0].weight", "-1"},
			{"bad.yml:22", "Gizmo"},
			{"bad.yml:27", "AuthorizationPolicy"},
		} {
			found := false
			for _, l := range strings.Split(printed, "\n") {
				all := true
				for _, w := range want {
					all = all && strings.Contains(l, w)
				}
				found = found || all
			}
			if !found {
				t.Errorf("no line with %q in:\n%s", want, printed)
			}
		}
	})
	t.Run("the other documents are in force", func(t *testing.T) {
		c := mesh.Client(3 * time.Second)
		mesh.Until(t, 20*time.Second, "web", func() error {
			a, err := mesh.Get(c, m.URL("/get"))
			if err == nil {
				err = mesh.OK(a)
			}
			return err
		})
		m.Must("get", "configmap", "from-json")
		if r := m.Run("get", "configmap", "from-below"); r.Code == 0 {
			t.Errorf("without -R, a directory below is read: %s", r)
		}
	})
	t.Run("accepted without effect is said once for each object", func(t *testing.T) {
		for object, want := range map[string][]string{
			"deployment/web": {"resources", "imagePullPolicy", "securityContext"},
			"role/reader":    {"Role default/reader"},
			"hpa/web":        {"HorizontalPodAutoscaler default/web"},
		} {
			r := m.Run("get", object)
			words(t, "get "+object, r.Err, append(want, "has no effect")...)
			if r := m.Run("get", object); strings.Contains(r.Err, "has no effect") {
				t.Errorf("get %s says it again: %s", object, r)
			}
		}
		if r := m.Run("get", "configmap/settings"); strings.Contains(r.Err, "has no effect") {
			t.Errorf("get configmap/settings: %s", r)
		}
	})
	t.Run("environment, volumes and init containers", func(t *testing.T) {
		r := m.Exec("deploy/web", "app", "sh", "-c", "echo $PLAIN $POD $FROM_MAP $FROM_SECRET; cat /etc/settings/color /opt/keys/token; cat /scratch/init; pwd")
		words(t, "in the pod", r.Out, "1 web-", " blue s3cret", "blues3cret", "made by init")
		r = m.Exec("deploy/web", "app", "sh", "-c", "cat /etc/passwd >/dev/null && touch /usr/bin/x")
		if r.Code == 0 {
			t.Error("a pod may write the machine's files")
		}
	})
	t.Run("state survives a restart", func(t *testing.T) {
		born := m.Field("virtualservice/web", ".metadata.creationTimestamp")
		m.Apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: by-hand}\ndata: {a: b}\n")
		if r := m.Stop(); r.Code != 0 {
			t.Fatalf("stop: %s", r)
		}
		m.Start(mesh.Options{Paths: []string{dir}, Flags: []string{"-R"}})
		if got := m.Field("configmap/by-hand", ".data.a"); got != "b" {
			t.Errorf("what was applied by hand: %q", got)
		}
		if got := m.Field("virtualservice/web", ".metadata.creationTimestamp"); got != born {
			t.Errorf("created %s, first seen %s", got, born)
		}
		m.Must("get", "configmap", "from-below")
	})
}

func TestKustomizeAndImages(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{
		"kustomization.yaml": "resources: [base.yaml]\nnamePrefix: my-\nconfigMapGenerator: [{name: made, literals: [a=b]}]\nreplicas: [{name: web, count: 2}]\n",
		"base.yaml":          deployment("web", "example.com/shop:7"),
		"ignored.yaml":       "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: not-named}\n",
	})
	script := filepath.Join(t.TempDir(), "shop")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntrap 'exit 3' TERM\necho shop says $1\nwhile :; do sleep 1000 & wait; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := mesh.Up(t, mesh.Options{Name: "kustomize", Paths: []string{dir}, Flags: []string{"--image", "example.com/*=" + script + " hello"}})
	if pods := m.Pods("app=web"); len(pods) != 2 || !strings.HasPrefix(pods[0], "my-web-") {
		t.Errorf("pods %v, want two of my-web", pods)
	}
	if r := m.Run("get", "configmap", "not-named"); r.Code == 0 {
		t.Errorf("a file that the kustomization does not name is read: %s", r)
	}
	mesh.Until(t, 5*time.Second, "the program's log", func() error {
		for _, pod := range m.Pods("app=web") {
			if out := m.Must("logs", pod); out != "shop says hello\n" {
				return fmt.Errorf("%q", out)
			}
		}
		return nil
	})
	t.Run("a process that dies is restarted with back-off", func(t *testing.T) {
		pod := m.Pods("app=web")[0]
		m.Exec(pod, "app", "sh", "-c", "kill -TERM 1")
		mesh.Until(t, 10*time.Second, "a restart", func() error {
			if n := m.Field("pod/"+pod, ".status.containerStatuses[0].restartCount"); n == "0" {
				return fmt.Errorf("%s", m.Must("get", "pods"))
			}
			return nil
		})
	})
	t.Run("a deleted pod is replaced, a scaled one is gone", func(t *testing.T) {
		pods := m.Pods("app=web")
		m.Must("delete", "pod", pods[0])
		mesh.Until(t, 15*time.Second, "another pod", func() error {
			now := m.Pods("app=web")
			if len(now) != 2 || now[0] == pods[0] || now[1] == pods[0] {
				return fmt.Errorf("%v, before %v", now, pods)
			}
			return nil
		})
		m.Must("scale", "deployment", "my-web", "--replicas=0")
		mesh.Until(t, 15*time.Second, "no pod", func() error {
			if now := m.Pods("app=web"); len(now) != 0 {
				return fmt.Errorf("%v", now)
			}
			return nil
		})
	})
}

// A namespace that is labelled after its pods run needs a restart, and says so.
func TestLabellingANamespaceHints(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"shop.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---" +
		strings.Replace(deployment("web", httpbinImage), "metadata: {name: web}", "metadata: {name: web, namespace: shop}", 1)})
	m := mesh.Up(t, mesh.Options{Name: "label", Paths: []string{dir}})
	words(t, "get pods", m.Must("get", "pods", "-n", "shop"), "1/1")
	r := m.Run("label", "namespace", "shop", "istio-injection=enabled")
	if r.Code != 0 {
		t.Fatalf("label: %s", r)
	}
	words(t, "the answer to label", r.Out+r.Err, m.Pod("app=web", "-n", "shop"), "rollout restart")
	words(t, "get pods before the restart", m.Must("get", "pods", "-n", "shop"), "1/1")
	m.Must("rollout", "restart", "deployment", "-n", "shop")
	m.Rollout("web", "-n", "shop")
	mesh.Until(t, 15*time.Second, "2/2", func() error {
		out := m.Must("get", "pods", "-n", "shop")
		if !strings.Contains(out, "2/2") || strings.Contains(out, "1/1") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// An application that listens on loopback only is reached by LOCALHOST, and the
// default says why it is not.
func TestApplicationOnLoopback(t *testing.T) {
	linux(t)
	// The built-in httpbin listens everywhere; nginx listens where its file says.
	app := deployment("web", "nginx",
		`        ports: [{containerPort: 8080}]`,
		`        volumeMounts: [{name: conf, mountPath: /etc/nginx/conf.d}]`,
		`      volumes: [{name: conf, configMap: {name: conf}}]`) + service("web", 80, 8080) + gateway80 + `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data:
  default.conf: |
    server {
      listen 127.0.0.1:8080;
      location / { return 200 "from loopback"; }
    }
---
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
`
	meshConfig := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    accessLogFile: /dev/stdout\n%s"
	m := mesh.Up(t, mesh.Options{Name: "loopback", Paths: []string{dirOf(t, map[string]string{"app.yaml": app})}})
	c := mesh.Client(5 * time.Second)
	t.Run("by default it is not reached, and describe says why", func(t *testing.T) {
		mesh.Until(t, 10*time.Second, "503, and UF in the log of the sidecar that dialled", func() error {
			a, err := mesh.Get(c, m.URL("/"))
			if err != nil {
				return err
			}
			if a.Status == 200 {
				t.Fatalf("an application on loopback was reached: %q", a.Body)
			}
			for _, l := range m.Logs("app=web", "istio-proxy") {
				if strings.Contains(l, " 503 UF ") || strings.Contains(l, " 503 URX,UF ") {
					return nil
				}
			}
			return fmt.Errorf("status %d, no UF yet", a.Status)
		})
		mesh.Until(t, 5*time.Second, "describe pod says that the application listens on loopback only", func() error {
			if out := m.Must("describe", "pod", m.Pod("app=web")); !strings.Contains(out, "listens on loopback only") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	})
	t.Run("LOCALHOST reaches it", func(t *testing.T) {
		m.Apply(fmt.Sprintf(meshConfig, "    inboundTrafficPolicy: {mode: LOCALHOST}\n"))
		mesh.Until(t, 10*time.Second, "200", func() error {
			a, err := mesh.Get(c, m.URL("/"))
			if err == nil && (a.Status != 200 || a.Body != "from loopback") {
				err = fmt.Errorf("status %d %q", a.Status, a.Body)
			}
			return err
		})
		m.LogLine("app=web", "istio-proxy", []string{`"GET / HTTP/1.1" 200 `, ` "127.0.0.1:8080" inbound|8080|| `})
	})
}

// A port of a Gateway can come at run time.
func TestGatewayPortAtRunTime(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"web.yaml": deployment("web", httpbinImage) + service("web", 80, 80) + gateway80})
	m := mesh.Up(t, mesh.Options{Name: "ports", Paths: []string{dir}, Publish: []int{80, 8090}})
	c := mesh.Client(2 * time.Second)
	other := fmt.Sprintf("http://127.0.0.1:%d/get", m.Port(8090))
	if _, err := mesh.Get(c, other); err == nil {
		t.Fatal("the port is open before anybody asked for it")
	}
	more := strings.NewReplacer("name: web", "name: more", "number: 80, name: http", "number: 8090, name: http", "gateways: [web]", "gateways: [more]").Replace(gateway80)
	m.Apply(more)
	mesh.Until(t, 5*time.Second, "the new port", func() error {
		a, err := mesh.Get(c, other)
		if err == nil {
			err = mesh.OK(a)
		}
		return err
	})
	words(t, "urls", m.Must("urls"), "istio-system/istio-ingressgateway", fmt.Sprintf("http://127.0.0.1:%d\n", m.Port(8090)))
	m.Delete(more)
	mesh.Until(t, 20*time.Second, "the port closed", func() error {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(m.Port(8090)))
		if err != nil {
			return err
		}
		return l.Close()
	})
}

func TestWordsOfTheCommandLine(t *testing.T) {
	m := mesh.New(t, mesh.Options{Name: "absent"})
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"get", "pods"}, 1, "/malla --mesh absent up DIR"},
		{[]string{"up"}, 2, "/malla up --help"},
		{[]string{"up", "--publish", "x", "."}, 2, "HOST:PORT"},
		{[]string{"gte", "pods"}, 2, "malla: error: unknown command"},
		{[]string{"up", "--detach", "no-such-directory"}, 1, "no-such-directory"},
		{[]string{"stop"}, 1, "does not run"},
		{[]string{"urls"}, 1, "does not run"},
	} {
		r := m.Run(test.args...)
		if r.Code != test.code || !strings.Contains(r.Err, test.want) {
			t.Errorf("malla %s: %s, want exit %d and %q", strings.Join(test.args, " "), r, test.code, test.want)
		}
	}
	if out := m.Must("version"); strings.Contains(out, "(devel)") || !regexp.MustCompile(`\d+\.\d+\.\d+`).MatchString(out) {
		t.Errorf("version: %q", out)
	}
}

// In the foreground `up` shows each pod, then the table, and Ctrl-C ends it all.
func TestForeground(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"web.yaml": deployment("web", httpbinImage) + service("web", 80, 80) + gateway80})
	m := mesh.New(t, mesh.Options{Name: "front"})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := m.Command(ctx, "up", "--publish", fmt.Sprintf("%d:80", m.Port(80)), dir)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c := mesh.Client(3 * time.Second)
	mesh.Until(t, 30*time.Second, "the table", func() error {
		if !strings.Contains(out.String(), m.URL("")) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	mesh.Until(t, 5*time.Second, "an answer", func() error {
		a, err := mesh.Get(c, m.URL("/get"))
		if err == nil {
			err = mesh.OK(a)
		}
		return err
	})
	words(t, "up", out.String(), "web-", "istiod-", "istio-ingressgateway-")
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	write(t, filepath.Join(dir, "more.yaml"), strings.NewReplacer("number: 80, name: http", fmt.Sprintf("number: %d, name: http", port), "{name: web}", "{name: more}", "[web]", "[more]").Replace(gateway80))
	mesh.Until(t, 10*time.Second, "a port that is added later and is in use: where it is offered", func() error {
		if want := fmt.Sprintf("port %d of istio-system/istio-ingressgateway is offered at 127.0.0.1:", port); !strings.Contains(out.String(), want) || !strings.Contains(out.String(), fmt.Sprintf("since %d is in use", port)) {
			return fmt.Errorf("want %q in:\n%s", want, out)
		}
		return nil
	})
	tree := m.Tree()
	// The terminal sends Ctrl-C to the whole group.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	if err := <-ended; err != nil && cmd.ProcessState.ExitCode() != 130 && cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("up after Ctrl-C: %v\n%s", err, out)
	}
	gone(t, m, tree)
}

// A terminal that goes takes along what it has in front, as Ctrl-C does, however often that is typed; what was started to outlive it stays.
func TestSignals(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"})
	m := mesh.New(t, mesh.Options{Name: "signals"})
	// front starts a mesh in the foreground, through another program if one is named.
	front := func(t *testing.T, through string) (*exec.Cmd, *lockedBuffer, chan error) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		t.Cleanup(cancel)
		cmd := m.Command(ctx, "up", dir)
		if through != "" {
			path, err := exec.LookPath(through)
			if err != nil {
				t.Skip(err)
			}
			cmd.Path, cmd.Args = path, append([]string{through, m.Bin}, cmd.Args[1:]...)
		}
		out := &lockedBuffer{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		mesh.Until(t, 30*time.Second, "the mesh", func() error {
			if !strings.Contains(out.String(), "Following the files") {
				return errors.New(out.String())
			}
			return nil
		})
		return cmd, out, ended
	}
	lives := func(t *testing.T) {
		t.Helper()
		if r := m.Run("get", "cm", "x"); r.Code != 0 {
			t.Errorf("the mesh has gone: %s", r)
		}
	}
	for _, test := range []struct {
		what    string
		signals []syscall.Signal
	}{
		{"the terminal goes", []syscall.Signal{syscall.SIGHUP}},
		{"Ctrl-C twice", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}},
		{"a request to end", []syscall.Signal{syscall.SIGTERM}},
	} {
		t.Run(test.what, func(t *testing.T) {
			cmd, out, ended := front(t, "")
			tree := m.Tree()
			for _, s := range test.signals {
				_ = cmd.Process.Signal(s)
			}
			if err := <-ended; err != nil {
				t.Errorf("up ended with %v", err)
			}
			gone(t, m, tree)
			words(t, "up", out.String(), `mesh "signals" has ended`)
		})
	}
	t.Run("the terminal of one under nohup goes", func(t *testing.T) {
		cmd, _, ended := front(t, "nohup")
		_ = cmd.Process.Signal(syscall.SIGHUP)
		lives(t)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	t.Run("the terminal of a detached one goes", func(t *testing.T) {
		m.Start(mesh.Options{Paths: []string{dir}})
		if err := syscall.Kill(m.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		lives(t)
	})
}

// Who ends a mesh while it starts is told nothing about what was not applied any more.
func TestInterruptedStart(t *testing.T) {
	linux(t)
	files := map[string]string{}
	for i := range 20 {
		files[fmt.Sprintf("web%d.yaml", i)] = service(fmt.Sprintf("web%d", i), 80, 80)
	}
	m := mesh.New(t, mesh.Options{Name: "halt"})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := m.Command(ctx, "up", dirOf(t, files))
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mesh.Until(t, 30*time.Second, "the first file applied", func() error {
		_, err := os.Stat(filepath.Join(m.Dir(), "api.sock"))
		return err
	})
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("up after Ctrl-C: %v", err)
	}
	if strings.Contains(out.String(), "error") {
		t.Errorf("after Ctrl-C:\n%s", out)
	}
}

// A lockedBuffer is written by a command while a test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Who looks at the beginning of what `malla up --detach` says (head) has the mesh all the same.
func TestDetachedIntoAPipeThatCloses(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"})
	m := mesh.New(t, mesh.Options{Name: "head"})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := m.Command(ctx, "up", "--detach", dir)
	cmd.Stdout, cmd.Stderr = w, w
	err = cmd.Run()
	w.Close()
	if err != nil {
		t.Errorf("malla up --detach: %v", err)
	}
	m.Must("get", "configmap", "x")
}
