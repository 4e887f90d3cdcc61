package pods

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// opensAfter listens on 8080 after some time and answers with a status.
func opensAfter(d time.Duration, h http.Handler) program {
	return func(p *fakeProcess) int {
		select {
		case <-time.After(d):
			p.b.listen("8080", h)
			defer p.b.listen("8080", nil)
		case <-p.term:
			return 0
		case <-p.kill:
			return 0
		}
		return serves(p)
	}
}

func with(probe string) string {
	return "  containers: [{name: app, image: app, ports: [{name: web, containerPort: 8080}], " + probe + "}]\n"
}

func TestReadinessProbe(t *testing.T) {
	const http1 = "readinessProbe: {httpGet: {path: /, port: web}, periodSeconds: 10}"
	for _, test := range []struct {
		name, spec string
		app        program
		after      time.Duration
		want       string
	}{
		{"a program that is up soon is ready soon, not after a period", with(http1), opensAfter(30*time.Millisecond, answers(200, "")), 100 * time.Millisecond, "Running, app ready"},
		{"a redirect to another host is fine", with(http1), opensAfter(0, http.RedirectHandler("http://example.com/", http.StatusFound)), time.Second, "Running, app ready"},
		{"one to the same host is followed", with(http1), opensAfter(0, http.RedirectHandler("/", http.StatusFound)), time.Second, "Running, app running"},
		{"500 is not", with(http1), opensAfter(0, answers(500, "")), time.Minute, "Running, app running"},
		{"initialDelaySeconds is kept", with("readinessProbe: {tcpSocket: {port: 8080}, initialDelaySeconds: 5}"), opensAfter(0, answers(200, "")), 4900 * time.Millisecond, "Running, app running"},
		{"tcpSocket", with("readinessProbe: {tcpSocket: {port: 8080}}"), opensAfter(0, answers(200, "")), time.Second, "Running, app ready"},
		{"a port that nobody has", with("readinessProbe: {tcpSocket: {port: what}}"), opensAfter(0, answers(200, "")), time.Minute, "Running, app running"},
		{"exec", with("readinessProbe: {exec: {command: [ok]}}"), serves, time.Second, "Running, app ready"},
		{"exec that fails", with("readinessProbe: {exec: {command: [fails]}}"), serves, time.Minute, "Running, app running"},
		{"exec that hangs", with("readinessProbe: {exec: {command: [stubborn]}, timeoutSeconds: 2}"), serves, time.Minute, "Running, app running"},
		{"successThreshold", with("readinessProbe: {exec: {command: [ok]}, successThreshold: 9, periodSeconds: 1}"), serves, 2 * time.Second, "Running, app running"},
		{"no probe: when its port is open", with("env: []"), opensAfter(time.Second, answers(200, "")), 900 * time.Millisecond, "Running, app running"},
		{"or it does not open at all", with("env: []"), serves, opens + 100*time.Millisecond, "Running, app ready"},
	} {
		t.Run(test.name, func(t *testing.T) {
			story(t, map[string]program{"app": test.app, "ok": exits(0), "fails": exits(1), "stubborn": stubborn}, func(c *cluster) {
				c.pod(test.spec)
				c.after(test.after)
				c.want(test.want)
			})
		})
	}
}

func TestReadinessComesAndGoes(t *testing.T) {
	story(t, map[string]program{"app": opensAfter(0, answers(200, ""))}, func(c *cluster) {
		c.pod(with("readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 2, failureThreshold: 3}"))
		c.after(time.Second)
		c.want("Running, app ready")
		c.machine.box(0).listen("8080", answers(503, "resting"))
		c.after(4 * time.Second)
		c.want("Running, app ready") // two failures
		c.after(2 * time.Second)
		c.want("Running, app running")
		for _, condition := range c.get().Status.Conditions {
			const want = "containers with unready status: [app]; app: Readiness probe failed: HTTP probe failed with statuscode: 503: resting"
			if condition.Type == corev1.PodReady && condition.Message != want {
				t.Errorf("the condition says %q, want %q", condition.Message, want)
			}
		}
		c.machine.box(0).listen("8080", answers(200, ""))
		c.after(2 * time.Second)
		c.want("Running, app ready")
		if n := c.get().Status.ContainerStatuses[0].RestartCount; n != 0 {
			t.Error("readiness restarted the container")
		}
	})
}

func TestLivenessProbe(t *testing.T) {
	story(t, map[string]program{"app": opensAfter(0, answers(200, "")), "hook": exits(0)}, func(c *cluster) {
		c.pod(with("livenessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 2, failureThreshold: 3}, lifecycle: {preStop: {exec: {command: [hook]}}}"))
		c.after(time.Hour)
		c.want("Running, app ready")
		c.machine.box(0).listen("8080", nil)
		c.after(5 * time.Second)
		c.want("Running, app ready")
		c.after(2 * time.Second)
		c.want("Running, app ready x1")
		if s := c.get().Status.ContainerStatuses[0].LastTerminationState.Terminated; s.ExitCode != 0 || s.Reason != "Completed" {
			t.Errorf("it ended with %+v, want an end by itself after SIGTERM", s)
		}
		if e := c.events("Killing"); len(e) != 1 || e[0].Message != "Container app failed liveness probe, will be restarted" {
			t.Errorf("events: %v", e)
		}
		hooks := 0
		for _, p := range c.machine.box(0).processes {
			if len(p.exec.Argv) > 0 && p.exec.Argv[0] == "hook" {
				hooks++
			}
		}
		if hooks != 1 {
			t.Errorf("preStop ran %d times, want once", hooks)
		}
	})
}

func TestLivenessKillsWhatDoesNotEnd(t *testing.T) {
	story(t, map[string]program{"app": stubborn}, func(c *cluster) {
		c.pod("  terminationGracePeriodSeconds: 20\n" + with("livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 1, terminationGracePeriodSeconds: 5}"))
		c.after(5900 * time.Millisecond)
		c.want("Running, app ready")
		c.after(200 * time.Millisecond)
		c.want("Running, app running x1")
	})
}

func TestStartupProbe(t *testing.T) {
	const both = "startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 2, failureThreshold: 5}, livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}"
	story(t, map[string]program{"app": opensAfter(8*time.Second, answers(200, ""))}, func(c *cluster) {
		c.pod(with(both))
		c.after(7 * time.Second)
		c.want("Running, app running") // the liveness probe waits for it
		if *c.get().Status.ContainerStatuses[0].Started {
			t.Error("started before its startup probe passed")
		}
		c.after(3 * time.Second)
		c.want("Running, app ready")
	})
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(with(both))
		c.after(15 * time.Second)
		c.want("Running, app running x1")
	})
}

func TestPostStart(t *testing.T) {
	story(t, map[string]program{"app": serves, "fails": exits(1)}, func(c *cluster) {
		c.pod("  restartPolicy: Never\n" + with("lifecycle: {postStart: {exec: {command: [fails]}}}"))
		c.want("Succeeded, app Completed(0)") // it was told to end, and ended well
		if len(c.events("FailedPostStartHook")) != 1 {
			t.Error("nobody was told")
		}
	})
	story(t, map[string]program{"app": serves, "hangs": stubborn}, func(c *cluster) {
		c.pod(with("lifecycle: {postStart: {exec: {command: [hangs]}}}"))
		c.after(time.Minute)
		c.want("Running, app running") // not ready before its hook is done
		c.process("app").crash()       // a hook does not outlive its container
		c.after(time.Second)
		c.want("Running, app running x1")
	})
}

func TestLoopbackIsTold(t *testing.T) {
	story(t, map[string]program{"app": opensAfter(0, answers(200, ""))}, func(c *cluster) {
		c.pod(with("env: []"))
		c.after(time.Second)
		if e := c.events("ListensOnLoopback"); len(e) != 0 {
			t.Errorf("events: %v, but it listens everywhere", e)
		}
	})
	story(t, map[string]program{"app": func(p *fakeProcess) int {
		p.b.listen("127.0.0.1:8080", answers(200, ""))
		return serves(p)
	}}, func(c *cluster) {
		c.pod(with("env: []"))
		c.after(time.Second)
		if e := c.events("ListensOnLoopback"); len(e) != 1 || !strings.Contains(e[0].Message, "listens on loopback only (port 8080)") {
			t.Errorf("events: %v", e)
		}
	})
}

// A readiness probe may say that all is well long before the program listens.
func TestLoopbackIsToldOfSlowPrograms(t *testing.T) {
	slowly := func(p *fakeProcess) int {
		<-time.After(40 * time.Second) // of the test's clock
		p.b.listen("127.0.0.1:8080", answers(200, ""))
		return serves(p)
	}
	for _, spec := range []string{"env: []", "readinessProbe: {exec: {command: [fine]}}"} {
		story(t, map[string]program{"app": slowly, "fine": exits(0)}, func(c *cluster) {
			c.pod(with(spec))
			c.after(20 * time.Second)
			c.want("Running, app ready")
			if e := c.events("ListensOnLoopback"); len(e) != 0 {
				t.Errorf("%s: told before it listens anywhere: %v", spec, e)
			}
			c.after(25 * time.Second)
			if e := c.events("ListensOnLoopback"); len(e) != 1 {
				t.Errorf("%s: events: %v, want one", spec, e)
			}
		})
	}
}

// A port that only a Service names counts too; but who has nothing there is left alone,
// and ready at once.
func TestLoopbackIsToldOfAServicesPort(t *testing.T) {
	const undeclared = "  containers: [{name: app, image: app}]\n"
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n"
	for _, test := range []struct {
		name string
		app  program
		want int
	}{
		{"on loopback, a while after the start", func(p *fakeProcess) int {
			<-time.After(300 * time.Millisecond) // of the test's clock
			p.b.listen("127.0.0.1:8080", answers(200, ""))
			return serves(p)
		}, 1},
		{"everywhere", opensAfter(300*time.Millisecond, answers(200, "")), 0},
		{"nothing", serves, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			story(t, map[string]program{"app": test.app}, func(c *cluster) {
				c.apply(service)
				c.after(time.Second)
				c.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default, labels: {app: web}}\nspec:\n  nodeName: malla\n" + undeclared)
				c.after(100 * time.Millisecond)
				c.want("Running, app ready")
				c.after(5 * time.Second)
				if e := c.events("ListensOnLoopback"); len(e) != test.want {
					t.Errorf("events: %v, want %d", e, test.want)
				}
			})
		})
	}
}

func TestEventsCount(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(with("readinessProbe: {tcpSocket: {port: 1}, periodSeconds: 1}"))
		c.after(time.Hour)
		e := c.events("Unhealthy")
		if len(e) != 1 || e[0].Count < 3500 {
			t.Errorf("%d events, the first %d times; want one with 3600", len(e), e[0].Count)
		}
	})
}

func TestProbeRequest(t *testing.T) {
	got := make(chan *http.Request, 100)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		_, _ = io.WriteString(w, "fine")
	})
	story(t, map[string]program{"app": opensAfter(0, h)}, func(c *cluster) {
		c.pod(with("readinessProbe: {httpGet: {path: 'health?deep=1', port: web, httpHeaders: [{name: Host, value: web.example}, {name: X-A, value: b}]}}"))
		c.after(time.Second)
		r := <-got
		if r.Host != "web.example" || r.URL.String() != "/health?deep=1" || r.Header.Get("X-A") != "b" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
			t.Errorf("%s %s %v", r.Host, r.URL, r.Header)
		}
	})
}
