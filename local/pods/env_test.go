package pods

import (
	"strings"
	"testing"
)

func TestExpand(t *testing.T) {
	e := &environ{}
	e.set("A", "alpha")
	e.set("B", "$(A)")
	for _, test := range []struct{ in, want string }{
		{"$(A)", "alpha"},
		{"x$(A)y$(A)", "xalphayalpha"},
		{"$$(A)", "$(A)"},    // an escape
		{"$$$(A)", "$alpha"}, // and then a reference
		{"$(NO)", "$(NO)"},   // unknown names stay
		{"$(B)", "$(A)"},     // values are not expanded again
		{"$A ${A}", "$A ${A}"},
		{"$(A", "$(A"},
		{"$", "$"},
		{"", ""},
	} {
		if got := expand(test.in, e); got != test.want {
			t.Errorf("expand(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.apply(configMap)
		c.apply(secret)
		c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: my-db, namespace: default}\nspec: {clusterIP: 10.96.7.7, ports: [{name: sql, port: 5432}]}\n")
		c.apply(`apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {tier: front}, annotations: {note: hi}}
spec:
  nodeName: malla
  serviceAccountName: default
  volumes: [{name: s, emptyDir: {}}, {name: t, emptyDir: {}}]
  containers:
  - name: app
    image: app
    command: [run, $(NAME)]
    args: ["--db=$(MY_DB_SERVICE_HOST)", $(WHAT)]
    resources: {limits: {cpu: 1500m, memory: 1Gi}, requests: {memory: 512Mi}}
    volumeMounts: [{name: s, mountPath: /s}, {name: t, mountPath: /t}]
    envFrom: [{configMapRef: {name: conf}, prefix: P_}, {configMapRef: {name: missing, optional: true}}, {secretRef: {name: sec}}]
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['note']"}}}
    - {name: SA, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}}
    - {name: URL, value: "http://$(NAME):$(password)/$(LATER)"}
    - {name: LATER, value: x}
    - {name: password, value: mine}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
    - {name: MEM, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
    - {name: KEY, valueFrom: {configMapKeyRef: {name: conf, key: b.txt}}}
    - {name: NONE, valueFrom: {secretKeyRef: {name: sec, key: missing, optional: true}}}
`)
		p := c.process("app")
		for name, want := range map[string]string{
			"NAME": "web", "TIER": "front", "NOTE": "hi", "SA": "default",
			"URL":      "http://web:geheim/$(LATER)", // what comes later is not known yet
			"password": "mine",                       // env beats envFrom
			"P_a.txt":  "alpha",
			"CPU":      "2", // rounded up
			"MEM":      "512", "KEY": "beta",
			"IP":                      c.get().Status.PodIP,
			"MY_DB_SERVICE_HOST":      "10.96.7.7",
			"MY_DB_SERVICE_PORT_SQL":  "5432",
			"MY_DB_PORT_5432_TCP":     "tcp://10.96.7.7:5432",
			"KUBERNETES_SERVICE_HOST": "10.96.0.1",
			"MALLA_IMAGE":             "app",
			"MALLA_MOUNTS":            "/s:/t",
		} {
			if got := p.env(name); got != want {
				t.Errorf("%s=%q, want %q", name, got, want)
			}
		}
		for _, v := range p.spec.Env {
			if strings.HasPrefix(v, "NONE=") {
				t.Error("an optional key that is not there makes a variable")
			}
		}
		if got, want := strings.Join(p.spec.Argv, " "), "app run web --db=10.96.7.7 $(WHAT)"; got != want {
			t.Errorf("it runs %q, want %q", got, want)
		}
	})
}

func TestServiceLinksCanBeOff(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.apply("apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: default}\nspec: {clusterIP: 10.96.7.7, ports: [{port: 5432}]}\n")
		c.pod("  enableServiceLinks: false\n" + one)
		p := c.process("app")
		if p.env("DB_SERVICE_HOST") != "" || p.env("KUBERNETES_SERVICE_HOST") == "" {
			t.Error("want KUBERNETES_* only")
		}
	})
}
