//go:build linux

package sandbox_test

import (
	"testing"

	"github.com/mallamesh/malla/local/sandbox"
)

func TestSmoke(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a, b := m.pod("a"), m.pod("b")
		out, s := a.run("id; ls -la /; cat /etc/resolv.conf /etc/hosts; ip a; ip r; ip -6 r; grep Cap /proc/self/status; ls /etc | head -5; mount | wc -l; touch /etc/x && echo w")
		m.Log(out, s)
		b.echo("80")
		m.Log(a.ask(b.v4.String() + ":80"))
		m.Log(a.ask("[" + b.v6.String() + "]:80"))
		_ = sandbox.Self
	})
}
