package pods

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/local/api"
)

// An earlier run of the mesh has ended by SIGKILL; its objects are still there.
func TestPodsOfAnEarlierRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		server, err := api.New(api.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		c := newCluster(t, server, dir, map[string]program{"app": says(100)})
		c.pod(one)
		c.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: owned, namespace: default, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: x, uid: u, controller: true}]}\nspec:\n  nodeName: malla\n" + one)
		c.after(10 * time.Second)
		first := c.get()
		c.stop()
		if err := os.MkdirAll(filepath.Join(dir, "logs", "default_stale_1"), 0o755); err != nil {
			t.Fatal(err)
		}

		c = newCluster(t, server, dir, c.machine.programs)
		t.Cleanup(c.stop)
		c.want("Running, app ready x1")
		if now := c.get(); !now.Status.StartTime.Equal(first.Status.StartTime) || now.Status.ContainerStatuses[0].LastTerminationState.Terminated == nil {
			t.Errorf("it forgot its earlier life: %+v", now.Status)
		}
		if got := c.logs(corev1.PodLogOptions{Previous: true}); got[:7] != "line 0\n" {
			t.Errorf("the log of the earlier run: %q", got)
		}
		entries, err := os.ReadDir(filepath.Join(dir, "logs"))
		if err != nil || len(entries) != 1 {
			t.Errorf("%v of the logs are left, want those of web only (%v)", entries, err)
		}
	})
}

func TestWhatHasEndedStaysEnded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		server, err := api.New(api.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		c := newCluster(t, server, dir, map[string]program{"app": says(2)})
		c.pod("  restartPolicy: Never\n" + one)
		c.after(10 * time.Second)
		c.stop()
		c = newCluster(t, server, dir, c.machine.programs)
		t.Cleanup(c.stop)
		c.after(time.Minute)
		c.want("Succeeded, app Completed(0)")
		if got := c.logs(corev1.PodLogOptions{}); got != "line 0\nline 1\n" {
			t.Errorf("its log is %q", got)
		}
		c.delete(-1)
		c.want("gone")
	})
}
