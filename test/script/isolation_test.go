//go:build linux

package script_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// TestAnApplicationIsKeptIn: what the pods of root may not do. TestAnOrdinaryUser
// looks at an ordinary user's.
func TestAnApplicationIsKeptIn(t *testing.T) {
	linux(t)
	dir := dirOf(t, map[string]string{"web.yaml": deployment("web", httpbinImage) + service("web", 80, 80) + gateway80 +
		"---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n"})
	m := mesh.Up(t, mesh.Options{Name: "keptin", Paths: []string{dir}})
	keptIn(t, m)
	bothLoopbacks(t, m)
}

// keptIn attacks from the application's container of an injected pod app=web.
func keptIn(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	pod := m.Pod("app=web")
	sh := func(script string) string {
		r := m.Exec(pod, "app", "/bin/sh", "-c", script)
		return strings.TrimSpace(r.Out)
	}
	for _, test := range []struct{ what, script string }{
		{"the sidecar's command line, environment and files", `cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | grep -e '^proxy$' -e ^PROXY_CONFIG=; ls -A /var/run/secrets/tokens /var/run/secrets/istio 2>/dev/null`},
		{"a process of ours, beside the application, which is process 1", `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -e '-init$'; grep -H 'Cap[PE]..:.*[1-9a-f]' /proc/1/status | grep -v 404fb`},
		{"the machine's secrets", `ls -d /etc/shadow /etc/gshadow /etc/ssh /etc/sudoers /etc/sudoers.d /etc/ssl/private /run/docker.sock /root/.ssh /run/malla/broker.sock 2>/dev/null`},
		{"the meshes' state", `find / -xdev -name admin.token 2>/dev/null; ls -d ` + m.Dir() + ` 2>/dev/null`},
	} {
		if out := sh(test.script); out != "" {
			t.Errorf("an application gets %s: %s", test.what, out)
		}
	}
	// It kills all that it can, the application only by what that listens to: the
	// application starts again, the sidecar has seen nothing.
	m.Exec(pod, "app", "/bin/sh", "-c", "kill -9 -1; kill -9 1; kill -TERM 1")
	restarts := func(container string) string {
		return m.Field("pod/"+pod, fmt.Sprintf(`.status.containerStatuses[?(@.name=="%s")].restartCount`, container))
	}
	mesh.Until(t, 15*time.Second, "the application again, with the sidecar of before", func() error {
		if app, proxy := restarts("app"), restarts("istio-proxy"); app != "1" || proxy != "0" {
			return fmt.Errorf("restarts of the application %s, want 1; of the sidecar %s, want 0", app, proxy)
		}
		return nil
	})
}

// bothLoopbacks asks the gateway by either.
func bothLoopbacks(t *testing.T, m *mesh.Mesh) {
	t.Helper()
	hosts := []string{"127.0.0.1", "localhost"}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		l.Close()
		hosts = append(hosts, "[::1]")
	}
	c := mesh.Client(3 * time.Second)
	for _, host := range hosts {
		mesh.Until(t, 10*time.Second, "an answer from "+host, func() error {
			a, err := mesh.Get(c, fmt.Sprintf("http://%s:%d/get", host, m.Port(80)))
			if err == nil {
				err = mesh.OK(a)
			}
			return err
		})
	}
}
