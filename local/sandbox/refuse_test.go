//go:build linux

package sandbox_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/node/capture"
	"golang.org/x/sys/unix"
)

// refusals are systems that refuse something, as seccomp filters: what a
// container engine's profile or a smaller kernel answers.
var refusals = map[string][]unix.SockFilter{
	// Docker's default profile without CAP_SYS_ADMIN: no new user namespace.
	"namespaces": denyIf(unix.SYS_CLONE, 0, unix.BPF_JSET, unix.CLONE_NEWUSER, unix.EPERM),
	// A kernel without nf_tables.
	"nftables": denyIf(unix.SYS_SOCKET, 2, unix.BPF_JEQ, unix.NETLINK_NETFILTER, unix.EPROTONOSUPPORT),
	// A kernel without IPv6.
	"ipv6": denyIf(unix.SYS_SOCKET, 0, unix.BPF_JEQ, unix.AF_INET6, unix.EAFNOSUPPORT),
	// AppArmor's kernel.apparmor_restrict_unprivileged_userns: the namespace may be
	// made, and no capability in it is worth anything.
	"mounts": denyIf(unix.SYS_MOUNT, -1, 0, 0, unix.EACCES),
}

// denyIf is a filter that answers errno to a system call whose argument compares
// so (any, if arg is -1), and lets all else pass.
func denyIf(call uint32, arg int, compare uint16, value uint32, errno syscall.Errno) []unix.SockFilter {
	const load, jump, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	deny := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno)}
	pass := unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW}
	f := []unix.SockFilter{{Code: load, K: 0}} // the number of the call
	if arg < 0 {
		return append(f, unix.SockFilter{Code: jump | unix.BPF_JEQ, K: call, Jf: 1}, deny, pass)
	}
	return append(f, unix.SockFilter{Code: jump | unix.BPF_JEQ, K: call, Jf: 3},
		unix.SockFilter{Code: load, K: uint32(16 + 8*arg)}, // its lower half, on little endian
		unix.SockFilter{Code: jump | compare, K: value, Jf: 1}, deny, pass)
}

// refuse becomes args, on a system that refuses what name says.
func refuse(name string, args []string) error {
	runtime.LockOSThread() // the filter is the thread's, and exec's
	filter := refusals[name]
	if len(filter) == 0 {
		return fmt.Errorf("no refusal %q", name)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", append([]string{"test"}, args...), os.Environ())
}

// refusing runs one of our tests on a system that refuses something.
func refusing(t *testing.T, refusal, test string, env ...string) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "refuse", refusal, "-test.run=^"+test+"$", "-test.v=true", "-test.count=1")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", refusal, err, out)
	}
	return string(out)
}

// What the system refuses is told in one line, with the setting that would allow it.
func TestRefusals(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the filters are for little-endian machines")
	}
	needNamespaces(t)
	for refusal, wants := range map[string][]string{
		"namespaces": {"finding: create a user namespace: operation not permitted; ", "seccomp"},
		"nftables":   {"finding: redirect connections (nftables): protocol not supported; load the kernel modules: sudo modprobe -a veth nf_tables "},
		"mounts":     {"finding: make mounts private: permission denied; "},
	} {
		out := refusing(t, refusal, "TestFindings", "MALLA_TEST_FINDINGS=1")
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", refusal, want, out)
			}
		}
		if strings.Count(out, "finding:") != 1 {
			t.Errorf("%s: want one line:\n%s", refusal, out)
		}
	}
}

// TestMeshOnIPv4 is not a test of its own: TestWithoutIPv6 runs it.
func TestMeshOnIPv4(t *testing.T) {
	if os.Getenv("MALLA_TEST_V4") == "" {
		t.Skip("part of TestWithoutIPv6")
	}
	inMesh(t, func(m *mesh) {
		only4 := func(s *sandbox.PodSpec) { s.IPs = m.router.Families(s.IPs) }
		captured := func(s *sandbox.PodSpec) { only4(s); s.Capture = &capture.Config{} }
		a, b := m.podV4("a", only4), m.podV4("b", only4)
		b.echo("80")
		want(m, "from pod to pod", a.ask(join(b.v4, 80)), "b saw "+a.v4.String())
		c := m.podV4("c", captured)
		_, out := c.start(sandbox.ContainerSpec{Name: "istio-proxy", Sidecar: true, Argv: []string{sandbox.Self, "pod-test", "sidecar"}})
		out.waitFor(m.T, "ready")
		want(m, "past a sidecar", c.ask(join(b.v4, 80)), "15001 "+join(b.v4, 80)+" <nil>")
	})
}

// podV4 is pod, where the router keeps no address of another family.
func (m *mesh) podV4(name string, change func(*sandbox.PodSpec)) *testPod {
	m.Helper()
	return m.pod(name, func(s *sandbox.PodSpec) {
		ips := s.IPs
		change(s)
		if len(s.IPs) != 1 || !s.IPs[0].Is4() {
			m.Errorf("addresses %v, want one of IPv4", s.IPs)
		}
		s.IPs = append(s.IPs, ips[1]) // the router passes over what it has not got
	})
}

// A machine without IPv6 runs the mesh on IPv4.
func TestWithoutIPv6(t *testing.T) {
	needNamespaces(t)
	if f := refusing(t, "ipv6", "TestFindings", "MALLA_TEST_FINDINGS=1"); strings.Contains(f, "finding:") {
		t.Errorf("IPv6 is not needed, and found missing:\n%s", f)
	}
	if out := refusing(t, "ipv6", "TestMeshOnIPv4", "MALLA_TEST_V4=1"); !strings.Contains(out, "there is no IPv6 here") && !strings.Contains(out, "--- PASS: TestMeshOnIPv4") {
		t.Errorf("%s", out)
	}
}
