package table

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/config/kind"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func kindOf(t *testing.T, name string) *kind.Kind {
	t.Helper()
	for _, k := range kind.All {
		if k.Kind == name || k.Key() == name {
			return k
		}
	}
	t.Fatalf("no kind %s", name)
	return nil
}

// object reads YAML; it is five minutes old.
func object(t *testing.T, doc string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, &u.Object); err != nil {
		t.Fatal(err)
	}
	plain(u.Object)
	unstructured.SetNestedField(u.Object, "x", "metadata", "name")
	unstructured.SetNestedField(u.Object, now.Add(-5*time.Minute).Format(time.RFC3339), "metadata", "creationTimestamp")
	return u
}

// plain makes whole numbers int64, as stored objects have them.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

func line(cells []any) string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = fmt.Sprint(c)
		if c == nil {
			out[i] = ""
		}
	}
	return strings.Join(out, " | ")
}

// The STATUS of a pod is what kubectl's users read first; each row is a life.
func TestPods(t *testing.T) {
	d := For(kindOf(t, "Pod"))
	for _, test := range []struct{ what, doc, want string }{
		{"just made", `
spec: {containers: [{name: a}, {name: istio-proxy}]}
status: {phase: Pending}`, "x | 0/2 | Pending | 0 | 5m"},
		{"the sidecar counts", `
spec: {containers: [{name: a}, {name: istio-proxy}]}
status: {phase: Running, containerStatuses: [{name: a, ready: true, state: {running: {}}}, {name: istio-proxy, ready: true, state: {running: {}}}]}`, "x | 2/2 | Running | 0 | 5m"},
		{"a container waits, and was restarted", `
spec: {containers: [{name: a}]}
status: {phase: Running, containerStatuses: [{name: a, restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: "2026-11-21T11:59:55Z"}}}]}`, "x | 0/1 | CrashLoopBackOff | 3 (5s ago) | 5m"},
		{"a container failed", `
spec: {containers: [{name: a}]}
status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 2, reason: Error}}}]}`, "x | 0/1 | Error | 0 | 5m"},
		{"a container was killed, and nobody says why", `
spec: {containers: [{name: a}]}
status: {phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 137, signal: 9}}}]}`, "x | 0/1 | Signal:9 | 0 | 5m"},
		{"all is done", `
spec: {containers: [{name: a}]}
status: {phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}]}`, "x | 0/1 | Completed | 0 | 5m"},
		{"the second of two init containers runs", `
spec: {initContainers: [{name: i}, {name: j}], containers: [{name: a}]}
status: {phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 0}}}, {name: j, state: {running: {}}}]}`, "x | 0/1 | Init:1/2 | 0 | 5m"},
		{"an init container fails", `
spec: {initContainers: [{name: i}], containers: [{name: a}]}
status: {phase: Pending, initContainerStatuses: [{name: i, restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}}]}`, "x | 0/1 | Init:CrashLoopBackOff | 2 | 5m"},
		{"a native sidecar counts and stays", `
spec: {initContainers: [{name: s, restartPolicy: Always}], containers: [{name: a}]}
status: {phase: Running, initContainerStatuses: [{name: s, ready: true, started: true, state: {running: {}}}], containerStatuses: [{name: a, ready: true, state: {running: {}}}]}`, "x | 2/2 | Running | 0 | 5m"},
		{"it is being deleted", `
metadata: {deletionTimestamp: "2026-11-21T12:00:00Z"}
spec: {containers: [{name: a}]}
status: {phase: Running, containerStatuses: [{name: a, ready: true, state: {running: {}}}]}`, "x | 1/1 | Terminating | 0 | 5m"},
		{"one container is done, another runs but is not ready", `
spec: {containers: [{name: a}, {name: b}]}
status: {phase: Running, containerStatuses: [{name: a, state: {terminated: {reason: Completed}}}, {name: b, ready: true, state: {running: {}}}]}`, "x | 1/2 | NotReady | 0 | 5m"},
	} {
		if got := line(d.Row(object(t, test.doc), Context{Now: now})[:5]); got != test.want {
			t.Errorf("%s: %s, want %s", test.what, got, test.want)
		}
	}
}

func TestRows(t *testing.T) {
	for _, test := range []struct{ kind, doc, want string }{
		{"Pod", `{spec: {nodeName: node1, containers: [{name: a}]}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}}`, "x | 0/1 | Running | 0 | 5m | 10.0.0.1 | node1 | <none> | <none>"},
		{"Deployment", `{spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c, image: i}, {name: d, image: j}]}}}, status: {readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1}}`,
			"x | 2/3 | 3 | 1 | 5m | c,d | i,j | a=b"},
		{"ReplicaSet", `{spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c, image: i}]}}}, status: {replicas: 2, readyReplicas: 1}}`, "x | 3 | 2 | 1 | 5m | c | i | a=b"},
		{"Ingress", `{spec: {ingressClassName: istio, tls: [{}], rules: [{host: a}, {host: b}, {host: c}, {host: d}]}, status: {loadBalancer: {ingress: [{ip: 127.0.0.1}, {hostname: h}]}}}`,
			"x | istio | a,b,c + 1 more... | 127.0.0.1,h | 80, 443 | Accepted | 5m"},
		{"Ingress", `{spec: {defaultBackend: {}}}`, "x | <none> | * |  | 80 | Accepted | 5m"},
		{"Service", `{spec: {type: NodePort, clusterIPs: [10.96.0.1, "fd00::1"], ports: [{port: 80, nodePort: 30080, protocol: TCP}, {port: 53, protocol: UDP}], selector: {a: b}}}`,
			"x | NodePort | 10.96.0.1 | <none> | 80:30080/TCP,53/UDP | 5m | a=b"},
		{"Service", `{spec: {type: LoadBalancer, clusterIPs: [10.96.0.1], ports: []}}`, "x | LoadBalancer | 10.96.0.1 | <pending> | <none> | 5m | <none>"},
		{"Service", `{spec: {type: LoadBalancer, clusterIPs: [10.96.0.1], ports: []}, status: {loadBalancer: {ingress: [{ip: 127.0.0.1}]}}}`, "x | LoadBalancer | 10.96.0.1 | 127.0.0.1 | <none> | 5m | <none>"},
		{"Service", `{spec: {type: ExternalName, externalName: example.com}}`, "x | ExternalName | <none> | example.com | <none> | 5m | <none>"},
		{"EndpointSlice", `{addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}, {addresses: [10.0.0.4]}]}`,
			"x | IPv4 | 80 | 10.0.0.1,10.0.0.2,10.0.0.3 + 1 more... | 5m"},
		{"EndpointSlice", `{addressType: IPv4}`, "x | IPv4 | <unset> | <unset> | 5m"},
		{"Endpoints", `{subsets: [{addresses: [{ip: 10.0.0.1}, {ip: "fd00::1"}], notReadyAddresses: [{ip: 10.0.0.9}], ports: [{port: 80}, {port: 81}]}]}`,
			"x | 10.0.0.1:80,10.0.0.1:81,[fd00::1]:80 + 1 more... | 5m"},
		{"Endpoints", `{subsets: [{addresses: [{ip: 10.0.0.1}]}]}`, "x | 10.0.0.1 | 5m"},
		{"Endpoints", `{}`, "x | <none> | 5m"},
		{"ConfigMap", `{data: {a: b, c: d}, binaryData: {e: Zg==}}`, "x | 3 | 5m"},
		{"Secret", `{type: Opaque, data: {a: Yg==}}`, "x | Opaque | 1 | 5m"},
		{"ServiceAccount", `{}`, "x | 0 | 5m"},
		{"Namespace", `{status: {phase: Active}}`, "x | Active | 5m"},
		{"Event", `{type: Warning, reason: BackOff, message: "again ", count: 4, involvedObject: {kind: Pod, name: web}, source: {component: kubelet}, firstTimestamp: "2026-11-21T11:50:00Z", lastTimestamp: "2026-11-21T11:59:50Z"}`,
			"10s | Warning | BackOff | pod/web |  | kubelet | again | 10m | 4 | x"},
		{"VirtualService", `{spec: {hosts: [reviews, "*.prod"], gateways: [gw]}}`, `x | ["gw"] | ["reviews","*.prod"] | Accepted | 5m`},
		{"DestinationRule", `{spec: {host: reviews}}`, "x | reviews | Accepted | 5m"},
		{"Gateway", `{spec: {}}`, "x | Accepted | 5m"},
		{"ServiceEntry", `{spec: {hosts: [a.b], location: MESH_EXTERNAL, resolution: DNS}}`, `x | ["a.b"] | MESH_EXTERNAL | DNS | Accepted | 5m`},
		{"PeerAuthentication", `{spec: {mtls: {mode: STRICT}}}`, "x | STRICT | Accepted | 5m"},
		{"PeerAuthentication", `{spec: {}}`, "x |  | Accepted | 5m"},
		{"Role", `{}`, "x | 5m"},
		{"HTTPRoute", `{spec: {hostnames: [a.b], parentRefs: [{name: edge}]}, status: {parents: [{conditions: [{type: Accepted, status: "True"}]}]}}`, `x | ["a.b"] | Accepted | 5m`},
		{"HTTPRoute", `{spec: {parentRefs: [{name: edge}]}, status: {parents: [{conditions: [{type: Accepted, status: "True"}, {type: ResolvedRefs, status: "False", message: "spec.rules[0]: no Service cart"}]}]}}`, `x |  | spec.rules[0]: no Service cart | 5m`},
		{"GRPCRoute", `{spec: {parentRefs: [{name: nobody}, {kind: Service, name: web}]}, status: {parents: []}}`, `x |  | none of its parents has taken it: Gateway nobody, Service web | 5m`},
		{"TLSRoute", `{spec: {parentRefs: [{name: edge}]}, status: {parents: [{conditions: [{type: PartiallyInvalid, status: "True", message: a}, {type: Accepted, status: "False", reason: NotAllowedByListeners}]}]}}`, `x | a (and 1 more) | 5m`},
		{kind.APIGateway, `{spec: {gatewayClassName: istio}, status: {conditions: [{type: AttachedListenerSets, status: "False"}], listeners: [{name: web, conditions: [{type: Conflicted, status: "False"}, {type: Programmed, status: "False", message: no certificate}]}]}}`, `x | istio |  |  | listener web: no certificate | 5m`},
		{kind.APIGateway, `{spec: {gatewayClassName: istio}, status: {conditions: [{type: Accepted, status: Unknown, message: Waiting for controller}]}}`, `x | istio |  |  | Waiting for controller | 5m`},
		{"Ingress", `{spec: {ingressClassName: istio, rules: [{host: a}, {host: b}]}}`, "x | istio | a,b |  | 80 | Accepted | 5m"},
	} {
		d := For(kindOf(t, test.kind))
		if got := line(d.Row(object(t, test.doc), Context{Now: now})); got != test.want {
			t.Errorf("%s: %s\nwant %s", test.kind, got, test.want)
		}
		if n := len(d.Columns()); n != strings.Count(test.want, " | ")+1 {
			t.Errorf("%s has %d columns for %q", test.kind, n, test.want)
		}
	}
}

// What was refused shows where people look for the status; kinds that have no
// such column get one for the occasion.
func TestRefused(t *testing.T) {
	refused := Context{Now: now, Refused: "a.yaml:3: spec.host: missing"}
	dr := object(t, `{spec: {host: reviews}}`)
	if got := line(For(kindOf(t, "DestinationRule")).WithStatus().Row(dr, refused)); got != "x | reviews | a.yaml:3: spec.host: missing | 5m" {
		t.Errorf("DestinationRule: %s", got)
	}
	missing := refused
	missing.Missing = true
	cm := For(kindOf(t, "ConfigMap")).WithStatus()
	if got := line(cm.Row(object(t, `{}`), missing)); got != "x |  |  | a.yaml:3: spec.host: missing" {
		t.Errorf("ConfigMap that never was: %s", got)
	}
	if got := line(cm.Row(object(t, `{data: {a: b}}`), Context{Now: now})); got != "x | 1 | 5m | Accepted" {
		t.Errorf("another ConfigMap of that list: %s", got)
	}
}

// What is wrong may be told in Events only; and nobody reads a table with lines of a thousand letters.
func TestFindings(t *testing.T) {
	ingress := For(kindOf(t, "Ingress"))
	c := Context{Now: now, Findings: []string{"no controller for class \"nope\"", "another"}}
	if got := line(ingress.Row(object(t, `{spec: {ingressClassName: nope}}`), c)); !ingress.WantsFindings() || got != `x | nope | * |  | 80 | no controller for class "nope" (and 1 more) | 5m` {
		t.Errorf("an Ingress with findings: %s", got)
	}
	vs, long := For(kindOf(t, "VirtualService")), strings.Repeat("näme ", 100)
	for what, row := range map[string][]any{
		"a condition": vs.Row(object(t, `{status: {conditions: [{type: Reconciled, status: "False", message: "`+long+`\nb"}]}}`), Context{Now: now}),
		"a refusal":   vs.Row(object(t, `{}`), Context{Now: now, Refused: long}),
	} {
		got := []rune(row[3].(string))
		if len(got) > Longest+len(" (and 1 more)") || !strings.Contains(string(got), "näme ...") {
			t.Errorf("%s: %d letters, %q", what, len(got), string(got))
		}
	}
}

// An object of the wrong shape must not stop the list that it is in.
func TestOddObject(t *testing.T) {
	u := object(t, `{spec: {replicas: many}}`)
	if got := line(For(kindOf(t, "Deployment")).Row(u, Context{Now: now})); !strings.HasPrefix(got, "x | <unknown>") {
		t.Errorf("got %s", got)
	}
}
