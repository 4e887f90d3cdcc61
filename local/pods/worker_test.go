package pods

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/control/inject"
)

const one = "  containers: [{name: app, image: app}]\n"

// stubborn ignores SIGTERM.
func stubborn(p *fakeProcess) int {
	<-p.kill
	return 0
}

func TestStatusIsKubernetes(t *testing.T) {
	for _, test := range []struct {
		name, spec string
		after      time.Duration
		want       string
	}{
		{"it runs", one, 0, "Running, app ready"},
		{"an image that nothing stands for", "  containers: [{name: app, image: what}]\n", 0, "Pending, app ErrImagePull"},
		{"one container that cannot start holds the phase", "  containers: [{name: app, image: app}, {name: b, image: what}]\n", 0, "Pending, app ready, b ErrImagePull"},
		{"Always starts again, at once for the first time", "  containers: [{name: app, image: fails}]\n", 0, "Running, app CrashLoopBackOff x1"},
		{"and later and later", "  containers: [{name: app, image: fails}]\n", 8 * time.Second, "Running, app CrashLoopBackOff x4"},
		{"also what succeeded", "  containers: [{name: app, image: ok}]\n", 0, "Running, app CrashLoopBackOff x1"},
		{"Never: succeeded", "  restartPolicy: Never\n  containers: [{name: app, image: ok}]\n", time.Hour, "Succeeded, app Completed(0)"},
		{"Never: failed", "  restartPolicy: Never\n  containers: [{name: app, image: fails}]\n", time.Hour, "Failed, app Error(3)"},
		{"Never: one of two failed", "  restartPolicy: Never\n  containers: [{name: app, image: fails}, {name: b, image: ok}]\n", 0, "Failed, app Error(3), b Completed(0)"},
		{"Never: one still runs", "  restartPolicy: Never\n  containers: [{name: app, image: fails}, {name: b, image: app}]\n", 0, "Running, app Error(3), b ready"},
		{"OnFailure: what succeeded rests", "  restartPolicy: OnFailure\n  containers: [{name: app, image: ok}]\n", time.Hour, "Succeeded, app Completed(0)"},
		{"OnFailure: what failed does not", "  restartPolicy: OnFailure\n  containers: [{name: app, image: fails}, {name: b, image: ok}]\n", 0, "Running, app CrashLoopBackOff x1, b Completed(0)"},
		{"a program that cannot be started", "  restartPolicy: Never\n  containers: [{name: app, image: broken}]\n", time.Second, "Failed, app StartError(128)"},
		{"a missing ConfigMap in the environment", "  containers: [{name: app, image: app, envFrom: [{configMapRef: {name: missing}}]}]\n", 0, "Pending, app CreateContainerConfigError"},
		{"a missing volume", "  volumes: [{name: v, configMap: {name: missing}}]\n" + one, 0, "Pending, app ContainerCreating"},
		{"init containers first", "  initContainers: [{name: i, image: app}]\n" + one, 0, "Pending, i running, app PodInitializing"},
		{"one after the other", "  initContainers: [{name: i, image: ok}, {name: j, image: app}]\n" + one, 0, "Pending, i Completed(0), j running, app PodInitializing"},
		{"then the others", "  initContainers: [{name: i, image: ok}]\n" + one, 0, "Running, i Completed(0), app ready"},
		{"an init container that fails is tried again", "  initContainers: [{name: i, image: fails}]\n" + one, 0, "Pending, i CrashLoopBackOff x1, app PodInitializing"},
		{"unless the policy is Never", "  restartPolicy: Never\n  initContainers: [{name: i, image: fails}]\n" + one, time.Hour, "Failed, i Error(3), app PodInitializing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			story(t, map[string]program{"app": serves, "ok": exits(0), "fails": exits(3), "broken": nil}, func(c *cluster) {
				c.kubelet.Program = knows(c, "broken")
				c.pod(test.spec)
				c.after(test.after)
				c.want(test.want)
			})
		})
	}
}

// knows makes the kubelet accept an image whose program does not exist.
func knows(c *cluster, image string) func(string, []string, []string) (Program, error) {
	before := c.kubelet.Program
	return func(i string, command, args []string) (Program, error) {
		if i == image {
			return Program{Argv: []string{i}}, nil
		}
		return before(i, command, args)
	}
}

func TestConditions(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod("  initContainers: [{name: i, image: app}]\n" + one)
		p := c.get()
		for _, want := range []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
			{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue},
			{Type: corev1.PodInitialized, Status: corev1.ConditionFalse, Reason: "ContainersNotInitialized", Message: "containers with incomplete status: [i]"},
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: "containers with unready status: [app]"},
			{Type: corev1.ContainersReady, Status: corev1.ConditionFalse, Reason: "ContainersNotReady", Message: "containers with unready status: [app]"},
		} {
			found := false
			for _, got := range p.Status.Conditions {
				found = found || got.Type == want.Type && got.Status == want.Status && got.Reason == want.Reason && got.Message == want.Message
			}
			if !found {
				t.Errorf("no condition %+v among %+v", want, p.Status.Conditions)
			}
		}
		since := p.Status.Conditions[0].LastTransitionTime
		c.after(time.Minute)
		c.process("i").b.processes[0].crash() // it fails and runs again: the sandbox stays
		c.after(time.Second)
		if got := c.get().Status.Conditions[0].LastTransitionTime; !got.Equal(&since) {
			t.Error("a condition that did not change has a new time")
		}
	})
}

func TestDelete(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(one)
		p := c.process("app")
		c.delete(-1)
		c.after(leave / 2)
		if p.told() {
			t.Error("it was told to end before its endpoint had time to leave")
		}
		c.after(leave)
		c.want("gone")
		if s := p.Wait(); s.Code != 0 {
			t.Errorf("it ended with %+v, want its own exit", s)
		}
	})
}

func TestDeleteAtAnyMoment(t *testing.T) {
	for _, test := range []struct{ name, spec string }{
		{"waiting for a volume", "  volumes: [{name: v, configMap: {name: missing}}]\n" + one},
		{"waiting for a ConfigMap", "  containers: [{name: app, image: app, envFrom: [{configMapRef: {name: missing}}]}]\n"},
		{"waiting for an image", "  containers: [{name: app, image: what}]\n"},
		{"in an init container", "  initContainers: [{name: i, image: app}]\n" + one},
		{"between two runs", "  containers: [{name: app, image: fails}]\n"},
		{"between two runs of an init container", "  initContainers: [{name: i, image: fails}]\n" + one},
		{"not ready", "  containers: [{name: app, image: app, readinessProbe: {tcpSocket: {port: 1}}}]\n"},
		{"during postStart", "  containers: [{name: app, image: app, lifecycle: {postStart: {exec: {command: [app]}}}}]\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			story(t, map[string]program{"app": serves, "fails": exits(1)}, func(c *cluster) {
				c.pod(test.spec)
				c.after(9 * time.Second)
				c.delete(-1)
				c.after(leave + 100*time.Millisecond)
				c.want("gone")
			})
		})
	}
	t.Run("without a sandbox", func(t *testing.T) {
		story(t, map[string]program{"app": serves}, func(c *cluster) {
			c.machine.refuse = context.DeadlineExceeded
			c.pod(one)
			c.after(9 * time.Second)
			c.want("Pending, app ContainerCreating")
			if len(c.events("FailedCreatePodSandBox")) != 1 {
				t.Error("want one event that counts")
			}
			c.delete(-1)
			c.want("gone")
		})
	})
}

func TestGrace(t *testing.T) {
	const patient = "  terminationGracePeriodSeconds: 20\n"
	slowHook := "  containers: [{name: app, image: app, lifecycle: {preStop: {exec: {command: [stubborn]}}}}]\n"
	for _, test := range []struct {
		name, spec string
		grace      int64
		want       time.Duration
	}{
		{"SIGKILL when the grace is over", patient + "  containers: [{name: app, image: stubborn}]\n", -1, 20 * time.Second},
		{"delete --grace-period", patient + "  containers: [{name: app, image: stubborn}]\n", 7, 7 * time.Second},
		{"delete --now leaves the kubelet's least", patient + "  containers: [{name: app, image: stubborn}]\n", 1, leave + lastWords},
		{"delete --grace-period=0 --force kills at once", patient + "  containers: [{name: app, image: stubborn}]\n", 0, 0},
		{"the default is 30 s", "  containers: [{name: app, image: stubborn}]\n", -1, 30 * time.Second},
		{"preStop counts, and SIGTERM comes all the same", patient + slowHook, -1, 20 * time.Second},
		{"preStop sleep", patient + "  containers: [{name: app, image: app, lifecycle: {preStop: {sleep: {seconds: 4}}}}]\n", -1, leave + 4*time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			story(t, map[string]program{"app": serves, "stubborn": stubborn}, func(c *cluster) {
				c.pod(test.spec)
				p := c.process("app")
				began := time.Now()
				c.delete(test.grace)
				<-p.Done()
				if got := time.Since(began); got < test.want-10*time.Millisecond || got > test.want+10*time.Millisecond {
					t.Errorf("the process ended after %s, want %s", got, test.want)
				}
				c.after(10 * time.Millisecond)
				c.want("gone")
			})
		})
	}
}

func TestASecondDeleteShortensTheGrace(t *testing.T) {
	story(t, map[string]program{"app": stubborn}, func(c *cluster) {
		c.pod(one)
		c.delete(-1)
		c.after(5 * time.Second)
		c.want("Running, app ready")
		c.delete(3)
		c.after(3*time.Second + 10*time.Millisecond)
		c.want("gone")
	})
}

func TestTheNameIsFreeAtOnce(t *testing.T) {
	story(t, map[string]program{"app": stubborn}, func(c *cluster) {
		c.pod(one)
		first := c.get().Status.PodIP
		c.delete(0)
		c.pod(one)
		c.after(10 * time.Millisecond)
		c.want("Running, app ready")
		if second := c.get().Status.PodIP; second == first {
			t.Errorf("both have %s: peers would take one for the other", first)
		}
	})
}

func TestFinalizersHoldAPod(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: default, finalizers: [example.com/wait]}\nspec:\n  nodeName: malla\n" + one)
		c.delete(-1)
		c.after(time.Minute)
		p := c.get()
		if p == nil || len(c.machine.boxes) != 1 {
			t.Fatalf("pod %v with %d sandboxes, want it held and not started again", p, len(c.machine.boxes))
		}
		p.Finalizers = nil
		if _, err := c.client.CoreV1().Pods("default").Update(c.t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.want("gone")
	})
}

func TestAPodThatIsKilledWholeRunsAgain(t *testing.T) {
	story(t, map[string]program{"app": serves, "ok": exits(0)}, func(c *cluster) {
		c.pod("  initContainers: [{name: i, image: ok}]\n" + one)
		before := c.get()
		c.after(time.Hour)
		c.machine.box(0).Kill()
		c.after(10 * time.Millisecond)
		c.want("Running, i Completed(0) x1, app ready x1")
		now := c.get()
		if now.Status.PodIP == before.Status.PodIP {
			t.Error("it has the same address: connections to the dead one would hang")
		}
		if last := now.Status.ContainerStatuses[0].LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
			t.Errorf("the last state is %+v, want exit code 137", last)
		}
		c.machine.box(1).Kill()
		c.after(10 * time.Millisecond)
		if p := c.get(); p.Status.PodIP != "" {
			t.Error("a pod without a sandbox still shows an address")
		}
		c.after(time.Second)
		c.want("Running, i Completed(0) x2, app ready x2")
	})
}

func TestAPodThatIsKilledInItsInitContainersRunsAgain(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod("  initContainers: [{name: i, image: app}]\n" + one)
		c.machine.box(0).Kill()
		c.after(10 * time.Millisecond)
		c.want("Pending, i running x1, app PodInitializing")
	})
}

func TestAnApplicationThatIsKilledRunsAgain(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(one)
		c.after(time.Hour)
		c.process("app").crash()
		c.after(10 * time.Millisecond)
		c.want("Running, app ready x1")
		if len(c.machine.boxes) != 1 {
			t.Error("it got a new sandbox")
		}
		c.after(2 * calm)
		c.process("app").crash() // a calm time makes it forget
		c.after(10 * time.Millisecond)
		c.want("Running, app ready x2")
	})
}

func TestANewImageReplacesAContainer(t *testing.T) {
	story(t, map[string]program{"app": serves, "new": serves}, func(c *cluster) {
		c.pod("  containers: [{name: app, image: what}]\n")
		c.want("Pending, app ErrImagePull")
		for image, want := range map[int]string{0: "app", 1: "new"} {
			p := c.get()
			p.Spec.Containers[0].Image = want
			if _, err := c.client.CoreV1().Pods("default").Update(c.t.Context(), p, metav1.UpdateOptions{}); err != nil {
				t.Fatal(image, err)
			}
			c.after(time.Second)
			if got := c.process("app").spec.Argv[0]; got != want {
				t.Errorf("image %q runs, want %q", got, want)
			}
		}
	})
}

// injected is a pod with a sidecar that is ready when 15021 says so.
const injected = `apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, annotations: {` + inject.StatusAnnotation + `: "{}"}}
spec:
  nodeName: malla
  restartPolicy: %s
  containers:
  - {name: app, image: app}
  - {name: istio-proxy, image: proxy, readinessProbe: {httpGet: {path: /healthz/ready, port: 15021}, periodSeconds: 1, failureThreshold: 4}}
`

func inPod(policy string) string { return strings.Replace(injected, "%s", policy, 1) }

func answers(code int, text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, code) })
}

func proxy(p *fakeProcess) int {
	p.b.listen("15021", answers(200, ""))
	defer p.b.listen("15021", nil)
	return serves(p)
}

func TestTheSidecarStartsFirstAndEndsLast(t *testing.T) {
	var order []string
	drained := false
	programs := map[string]program{
		"app": func(p *fakeProcess) int {
			order = append(order, "app starts")
			code := serves(p)
			order = append(order, "app ends")
			return code
		},
		"proxy": func(p *fakeProcess) int {
			order = append(order, "proxy starts")
			p.b.listen("15000", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				drained = r.Method == http.MethodPost && r.URL.Path == "/drain_listeners"
			}))
			p.b.listen("15021", answers(503, "certificate: no answer from istiod"))
			<-time.After(5 * time.Second)
			p.b.listen("15021", answers(200, ""))
			code := serves(p)
			order = append(order, "proxy ends")
			return code
		},
	}
	story(t, programs, func(c *cluster) {
		c.apply(inPod("Always"))
		c.after(4 * time.Second)
		c.want("Pending, app PodInitializing, istio-proxy running")
		const why = "istio-proxy: Readiness probe failed: HTTP probe failed with statuscode: 503: certificate: no answer from istiod"
		if got := c.get().Status.ContainerStatuses[0].State.Waiting.Message; got != why {
			t.Errorf("the application waits for %q, want %q", got, why)
		}
		if e := c.events("Unhealthy"); len(e) != 1 || e[0].Count < 3 {
			t.Errorf("got %d events, want one that counts", len(e))
		}
		c.after(2 * time.Second)
		c.want("Running, app ready, istio-proxy ready")
		c.delete(-1)
		c.after(time.Second)
		c.want("gone")
		if !drained {
			t.Error("the proxy was not told to drain")
		}
		if got, want := strings.Join(order, ", "), "proxy starts, app starts, app ends, proxy ends"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestASidecarThatIsKilledAloneRunsAgain(t *testing.T) {
	for _, policy := range []string{"Always", "Never"} {
		story(t, map[string]program{"app": serves, "proxy": proxy}, func(c *cluster) {
			c.apply(inPod(policy))
			c.after(time.Second)
			app := c.process("app")
			c.process("istio-proxy").crash()
			c.after(time.Second)
			c.want("Running, app ready, istio-proxy ready x1")
			if c.process("app") != app {
				t.Error("the application was restarted too")
			}
		})
	}
}

func TestASidecarOutlivesAKilledSandbox(t *testing.T) {
	story(t, map[string]program{"app": serves, "proxy": proxy}, func(c *cluster) {
		c.apply(inPod("Always"))
		c.after(time.Second)
		c.machine.box(0).Kill()
		c.after(time.Second)
		c.want("Running, app ready x1, istio-proxy ready x1")
	})
}

func TestAPodOfWorkEndsWithItsSidecar(t *testing.T) {
	work := func(p *fakeProcess) int {
		<-time.After(10 * time.Second)
		return 0
	}
	story(t, map[string]program{"app": work, "proxy": proxy}, func(c *cluster) {
		c.apply(inPod("OnFailure"))
		c.after(9 * time.Second)
		c.want("Running, app ready, istio-proxy ready")
		c.after(3 * time.Second)
		c.want("Succeeded, app Completed(0), istio-proxy Completed(0)")
	})
}

func TestTheSupervisorsEndKillsPods(t *testing.T) {
	story(t, map[string]program{"app": stubborn}, func(c *cluster) {
		c.pod(one)
		p := c.process("app")
		c.stop()
		if !isDone(p.Done()) {
			t.Error("the process lives on")
		}
	})
}
