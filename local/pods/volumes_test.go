package pods

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf, namespace: default}\ndata: {a.txt: alpha, b.txt: beta}\n"
const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: sec, namespace: default}\ndata: {password: Z2VoZWlt}\n"

// mounted lists what a container sees at a path: name, mode and contents.
func mounted(t *testing.T, p *fakeProcess, at string) string {
	t.Helper()
	for _, m := range p.spec.Mounts {
		if m.Path != at {
			continue
		}
		var out []string
		err := filepath.WalkDir(m.Source+"/.", func(path string, d os.DirEntry, err error) error {
			name := strings.TrimPrefix(path, m.Source+"/")
			if err != nil || strings.HasPrefix(name, "..") {
				if d != nil && d.IsDir() {
					return filepath.SkipDir
				}
				return err
			}
			info, err := os.Stat(path)
			if err != nil || info.IsDir() && d.Type()&os.ModeSymlink == 0 {
				return err
			}
			if info.IsDir() { // items below a directory
				return filepath.WalkDir(path+"/.", func(sub string, d os.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						out = append(out, show(t, name+strings.TrimPrefix(sub, path), sub))
					}
					return err
				})
			}
			out = append(out, show(t, name, path))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	return "nothing"
}

func show(t *testing.T, name, path string) string {
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return name + " " + info.Mode().Perm().String()[1:] + " " + string(b)
}

func mounting(volume, mount string) string {
	return "  automountServiceAccountToken: false\n  volumes:\n  - {name: v, " + volume + "}\n  containers: [{name: app, image: app, volumeMounts: [{name: v, mountPath: /v" + mount + "}]}]\n"
}

func TestVolumes(t *testing.T) {
	for _, test := range []struct{ name, spec, want string }{
		{"a ConfigMap", mounting("configMap: {name: conf}", ""), "a.txt rw-r--r-- alpha, b.txt rw-r--r-- beta"},
		{"with a mode", mounting("configMap: {name: conf, defaultMode: 0400}", ""), "a.txt r-------- alpha, b.txt r-------- beta"},
		{"some of its keys, elsewhere", mounting("configMap: {name: conf, items: [{key: a.txt, path: x/y.txt, mode: 0640}]}", ""), "x/y.txt rw-r----- alpha"},
		{"an optional one that is not there", mounting("configMap: {name: missing, optional: true}", ""), ""},
		{"a Secret", mounting("secret: {secretName: sec}", ""), "password rw-r--r-- geheim"},
		{"the downward API", mounting("downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: cpu, resourceFieldRef: {containerName: app, resource: limits.cpu}}]}", ""), "cpu rw-r--r-- 1, name rw-r--r-- web"},
		{"projected, from several", mounting("projected: {sources: [{configMap: {name: conf, items: [{key: a.txt, path: a}]}}, {secret: {name: sec}}]}", ""), "a rw-r--r-- alpha, password rw-r--r-- geheim"},
		{"an emptyDir", mounting("emptyDir: {}", ""), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			story(t, map[string]program{"app": serves}, func(c *cluster) {
				c.apply(configMap)
				c.apply(secret)
				c.pod(test.spec)
				if got := mounted(t, c.process("app"), "/v"); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}

func TestMounts(t *testing.T) {
	for _, test := range []struct {
		name, spec string
		readOnly   bool
		source     string // below the volume
	}{
		{"an emptyDir may be written", mounting("emptyDir: {}", ""), false, ""},
		{"unless it is mounted otherwise", mounting("emptyDir: {}", ", readOnly: true"), true, ""},
		{"a ConfigMap may not", mounting("configMap: {name: conf}", ""), true, ""},
		{"a subPath of an emptyDir is made", mounting("emptyDir: {}", ", subPath: a/b"), false, "a/b"},
	} {
		story(t, map[string]program{"app": serves}, func(c *cluster) {
			c.apply(configMap)
			c.pod(test.spec)
			m := c.process("app").spec.Mounts[0]
			if m.ReadOnly != test.readOnly || m.Source != filepath.Join(c.machine.box(0).dir, "v", test.source) {
				t.Errorf("%s: got %+v", test.name, m)
			}
		})
	}
}

// A claim is one directory, whichever pod mounts it, and what is in it stays.
func TestClaims(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(mounting("persistentVolumeClaim: {claimName: data-db-0}", ", subPath: a"))
		m := c.process("app").spec.Mounts[0]
		if m.ReadOnly || !strings.HasSuffix(m.Source, filepath.Join("claims", "default", "data-db-0", "a")) || strings.HasPrefix(m.Source, c.machine.box(0).dir) {
			t.Errorf("got %+v", m)
		}
		if info, err := os.Stat(filepath.Dir(m.Source)); err != nil || info.Mode().Perm() != 0o777 {
			t.Errorf("the claim is %v, %v; want it there, and for everybody to write", info, err)
		}
	})
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(mounting("persistentVolumeClaim: {claimName: data-db-0, readOnly: true}", ""))
		if m := c.process("app").spec.Mounts[0]; !m.ReadOnly {
			t.Errorf("a claim that is only to be read: %+v", m)
		}
	})
}

func TestSubPathOfAFile(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.apply(configMap)
		c.pod(mounting("configMap: {name: conf}", "/file, subPath: a.txt"))
		m := c.process("app").spec.Mounts[0]
		b, err := os.ReadFile(m.Source)
		if err != nil || string(b) != "alpha" {
			t.Errorf("%s holds %q (%v)", m.Source, b, err)
		}
	})
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.apply(configMap)
		c.pod(mounting("configMap: {name: conf}", "/file, subPath: missing.txt"))
		c.want("Pending, app CreateContainerConfigError")
		c.apply(strings.Replace(configMap, "b.txt", "missing.txt", 1))
		c.want("Running, app ready")
	})
}

func TestPodsWaitForTheirVolumes(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(mounting("configMap: {name: conf}", ""))
		c.want("Pending, app ContainerCreating")
		const why = `MountVolume.SetUp failed for volume "v": configmap "conf" not found`
		if got := c.get().Status.ContainerStatuses[0].State.Waiting.Message; got != why {
			t.Errorf("it waits for %q, want %q", got, why)
		}
		c.apply(configMap) // no time passes
		c.want("Running, app ready")
	})
}

func TestVolumesFollowTheirSources(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.apply(configMap)
		c.pod(mounting("configMap: {name: conf}", ""))
		c.apply(strings.Replace(configMap, "a.txt: alpha", "c.txt: gamma", 1))
		if got, want := mounted(t, c.process("app"), "/v"), "b.txt rw-r--r-- beta, c.txt rw-r--r-- gamma"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := c.client.CoreV1().ConfigMaps("default").Delete(c.t.Context(), "conf", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.after(time.Hour)
		if got := mounted(t, c.process("app"), "/v"); got == "" {
			t.Error("a deleted ConfigMap took the files with it")
		}
	})
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(mounting("downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}", ""))
		p := c.get()
		p.Labels = map[string]string{"a": "b"}
		if _, err := c.client.CoreV1().Pods("default").Update(c.t.Context(), p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.after(time.Millisecond)
		if got, want := mounted(t, c.process("app"), "/v"), `labels rw-r--r-- a="b"`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestTokensAreRenewedByAgeOnly(t *testing.T) {
	token := func(c *cluster) string {
		b, err := os.ReadFile(filepath.Join(c.machine.box(0).dir, "v", "token"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.apply(configMap)
		c.pod(mounting("projected: {sources: [{serviceAccountToken: {path: token, audience: istio-ca, expirationSeconds: 3600}}]}", ""))
		first := token(c)
		if first == "" {
			t.Fatal("no token")
		}
		c.apply(strings.Replace(configMap, "alpha", "gamma", 1)) // makes us read all volumes of the namespace
		c.after(40 * time.Minute)
		if token(c) != first {
			t.Error("a young token was replaced")
		}
		c.after(10 * time.Minute)
		if token(c) == first {
			t.Error("after 50 of its 60 minutes the token is the same")
		}
	})
}

func TestEveryPodHasAToken(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(one)
		got := mounted(t, c.process("app"), apiMount)
		for _, want := range []string{"ca.crt rw-r--r-- root", "namespace rw-r--r-- default", "token rw------- "} {
			if !strings.Contains(got, want) {
				t.Errorf("%q is not in %q", want, got)
			}
		}
	})
}

// What a pod puts into its emptyDir must not lead a mount out of it.
func TestSubPathStaysInTheVolume(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if got, err := subPath(dir, "out", true); err == nil {
		t.Errorf("it leads to %s", got)
	}
}
