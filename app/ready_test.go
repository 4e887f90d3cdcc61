//go:build linux

package app

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAWaitIsToldInShort(t *testing.T) {
	for _, test := range []struct{ reason, message, want string }{
		{"PodInitializing", "", "PodInitializing"},
		{"ContainerCreating", `MountVolume.SetUp failed for volume "istiod-ca-cert": configmap "istio-ca-root-cert" not found`, "waits for the control plane's root certificate"},
		{"ContainerCreating", `MountVolume.SetUp failed for volume "conf": configmap "conf" not found`, `ContainerCreating: MountVolume.SetUp failed for volume "conf": configmap "conf" not found`},
		{"CrashLoopBackOff", "back-off 4s restarting failed container=app pod=web-1_shop(uid)", "CrashLoopBackOff: back-off 4s restarting failed container"},
		{"ErrImagePull", "add --image 'a=COMMAND'", "ErrImagePull: add --image 'a=COMMAND'"},
	} {
		if got := inShort(&corev1.ContainerStateWaiting{Reason: test.reason, Message: test.message}); got != test.want {
			t.Errorf("%s, %q: %q, want %q", test.reason, test.message, got, test.want)
		}
	}
}

// A container that fails again and again is not ready in the moments in which it runs.
func TestAPodThatJustFailedIsNotReady(t *testing.T) {
	failed := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}
	since := func(d time.Duration) corev1.ContainerState {
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now().Add(-d))}}
	}
	pod := func(c corev1.ContainerStatus) *corev1.Pod {
		c.Name = "app"
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{c}}}
	}
	for _, test := range []struct {
		what  string
		c     corev1.ContainerStatus
		ready bool
		next  string
	}{
		{"the first start", corev1.ContainerStatus{Ready: true, State: since(0)}, true, ""},
		{"a moment after a failure", corev1.ContainerStatus{Ready: true, State: since(0), LastTerminationState: failed, RestartCount: 1}, false, ""},
		{"long after it", corev1.ContainerStatus{Ready: true, State: since(time.Minute), LastTerminationState: failed, RestartCount: 1}, true, ""},
		{"between two", corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, LastTerminationState: failed, RestartCount: 4}, false, "logs -n shop web -c app --previous"},
		{"without its image", corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}}, false, "describe pod -n shop web"},
	} {
		p := pod(test.c)
		text, ready, _ := podLine(p)
		if ready != test.ready {
			t.Errorf("%s: %q, ready %v", test.what, text, ready)
		}
		if got := whyNot(p); test.next != "" && got != test.next {
			t.Errorf("%s: next is %q, want %q", test.what, got, test.next)
		}
	}
}

// A manifest's own command brings the tree of its program, with any image.
func TestACommandOfAManifestBringsItsTool(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	bin := home() + "/.pyenv/shims"
	executable(t, bin+"/python")
	t.Setenv("PATH", bin)
	p, err := (&programs{cwd: "/work"}).program("python:3.12", []string{"python", "-m", "http.server"}, nil)
	if err != nil || len(p.Mounts) != 1 || p.Mounts[0].Source != home()+"/.pyenv" {
		t.Errorf("mounts %+v, %v: want ~/.pyenv", p.Mounts, err)
	}
}
