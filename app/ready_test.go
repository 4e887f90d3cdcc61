//go:build linux

package app

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
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
