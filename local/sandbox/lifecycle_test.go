//go:build linux

package sandbox_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/node/capture"
)

const envLinger = "MALLA_TEST_LINGER"

// TestLinger is not a test of its own: TestNothingIsLeft runs it and kills it.
func TestLinger(t *testing.T) {
	ready := os.Getenv(envLinger)
	if ready == "" {
		t.Skip("part of TestNothingIsLeft")
	}
	inMesh(t, func(m *mesh) {
		for _, name := range []string{"a", "b"} {
			p := m.pod(name, func(s *sandbox.PodSpec) { s.Capture = &capture.Config{} })
			p.start(sandbox.ContainerSpec{Name: "istio-proxy", Sidecar: true, Argv: []string{sandbox.Self, "pod-test", "sidecar"}})
			_, out := p.start(sandbox.ContainerSpec{Argv: []string{"/bin/sh", "-c", "trap '' TERM HUP INT; setsid sleep 3001 & echo up; while :; do sleep 3000; done"}})
			out.waitFor(m.T, "up")
		}
		if err := os.WriteFile(ready, nil, 0o644); err != nil {
			m.Fatal(err)
		}
		select {}
	})
}

// A process of the tree under test: pids are used again, start times are not.
type proc struct {
	pid   int
	start string
	name  string
}

func (p proc) alive() bool {
	q, ok := readProc(p.pid)
	return ok && q.start == p.start
}

func readProc(pid int) (proc, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return proc{}, false
	}
	fields := strings.Fields(string(b)[strings.LastIndex(string(b), ")")+1:])
	if fields[0] == "Z" || fields[0] == "X" {
		return proc{}, false
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return proc{pid, fields[19], strings.ReplaceAll(string(cmdline), "\x00", " ")}, true
}

// tree returns a process and all below it.
func tree(pid int) []proc {
	p, ok := readProc(pid)
	if !ok {
		return nil
	}
	out := []proc{p}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, child := range strings.Fields(string(b)) {
			n, _ := strconv.Atoi(child)
			out = append(out, tree(n)...)
		}
	}
	return out
}

// namespaces returns the namespaces of processes, but for our own.
func namespaces(procs []proc) map[string]bool {
	out := make(map[string]bool)
	for _, p := range procs {
		for _, kind := range []string{"net", "mnt", "pid", "user", "uts", "ipc"} {
			ours, _ := os.Readlink("/proc/self/ns/" + kind)
			if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.pid, kind)); err == nil && ns != ours {
				out[ns] = true
			}
		}
	}
	return out
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline, tick := time.After(15*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("not within 15 s: %s", what)
		case <-tick.C:
		}
	}
}

// Whichever of our processes is killed, with SIGKILL, nothing is left: no
// process, no namespace, no file but in the state directory.
func TestNothingIsLeft(t *testing.T) {
	needNamespaces(t)
	for _, test := range []struct {
		name   string
		victim func(all []proc) []proc
	}{
		{"the parent", func(all []proc) []proc { return all[:1] }},
		{"the supervisor", func(all []proc) []proc { return all[1:2] }},
		{"inits, then the parent", func(all []proc) []proc { return append(pick(all, "local pod-init"), all[0]) }},
		{"sidecars, then the supervisor", func(all []proc) []proc { return append(pick(all, "sidecar"), all[1]) }},
		{"parent and supervisor", func(all []proc) []proc { return all[:2] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := stateDir(t)
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestLinger$", "-test.count=1")
			cmd.Env = append(os.Environ(), envLinger+"="+filepath.Join(dir, "ready"), "TMPDIR="+dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			eventually(t, "pods run", func() bool { _, err := os.Stat(filepath.Join(dir, "ready")); return err == nil })
			all := tree(cmd.Process.Pid)
			if len(pick(all, "local pod-init")) != 2 || len(pick(all, "sidecar")) != 2 || len(all) < 10 {
				t.Fatalf("not the processes that were expected: %v", all)
			}
			ns, before := namespaces(all), allProcesses()
			start := time.Now()
			for _, p := range test.victim(all) {
				syscall.Kill(p.pid, syscall.SIGKILL)
			}
			cmd.Wait()
			for _, p := range all {
				eventually(t, fmt.Sprintf("%d %s is gone", p.pid, p.name), func() bool { return !p.alive() })
			}
			t.Logf("%d processes gone after %v", len(all), time.Since(start))
			// Numbers of namespaces are used again, so processes that came later do not count.
			for _, p := range before {
				for n := range namespaces([]proc{p}) {
					if ns[n] && p.alive() {
						t.Errorf("namespace %s is still there, in %d %s", n, p.pid, p.name)
					}
				}
			}
			mountinfo, _ := os.ReadFile("/proc/self/mountinfo")
			if strings.Contains(string(mountinfo), dir) {
				t.Error("a mount is left")
			}
			files, _ := filepath.Glob(dir + "/mesh*/pods/*")
			if len(files) > 0 {
				t.Errorf("files are left: %v", files)
			}
		})
	}
}

func pick(all []proc, text string) (out []proc) {
	for _, p := range all {
		if strings.Contains(p.name, text) {
			out = append(out, p)
		}
	}
	return out
}

func allProcesses() (out []proc) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, ok := readProc(pid); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

// A pod whose init is killed is gone whole; the others stay.
func TestKilledInit(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a, b := m.pod("a"), m.pod("b")
		b.echo("80")
		q, out := a.start(sandbox.ContainerSpec{Argv: []string{"/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1000; done"}})
		out.waitFor(m.T, "up")
		before := len(allProcesses())
		syscall.Kill(a.Pid(), syscall.SIGKILL)
		<-a.Done()
		if s := q.Wait(); !s.PodGone || s.Code != 137 {
			m.Errorf("%+v", s)
		}
		if after := len(allProcesses()); after > before-2 {
			m.Errorf("%d processes before, %d after", before, after)
		}
		if _, err := os.Stat(a.Dir()); !os.IsNotExist(err) {
			m.Errorf("its directory is still there: %v", err)
		}
		want(m, "the other pod", b.ask(join(b.v4, 80)), "b saw "+b.v4.String())
		// Its address can be used again.
		again := m.pod("again", func(s *sandbox.PodSpec) { s.IPs = append(s.IPs[:0], a.v4, a.v6) })
		again.echo("80")
		want(m, "a new pod at the address", b.ask(join(a.v4, 80)), "again saw "+b.v4.String())
	})
}

// "go run" deletes the executable while it runs: everything that starts later
// must start all the same.
func TestDeletedExecutable(t *testing.T) {
	if os.Getenv("MALLA_TEST_DELETED") == "" {
		needNamespaces(t)
		for _, when := range []string{"before the supervisor", "before the first pod"} {
			t.Run(when, func(t *testing.T) {
				exe := filepath.Join(stateDir(t), "test")
				copyExecutable(t, exe)
				cmd := exec.Command(exe, "-test.run=^TestDeletedExecutable$", "-test.v=true", "-test.count=1")
				cmd.Env = append(os.Environ(), "MALLA_TEST_DELETED="+when)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
		return
	}
	remove := func(when string) {
		if os.Getenv("MALLA_TEST_DELETED") == when {
			exe, err := os.Executable()
			if err == nil {
				err = os.Remove(exe)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if os.Getenv(envInside) == "" {
		remove("before the supervisor")
	}
	inMesh(t, func(m *mesh) {
		remove("before the first pod")
		a := m.pod("a")
		a.echo("80")
		want(m, "our own program in a pod", a.ask(join(a.v4, 80)), "a saw "+a.v4.String())
	})
}

func copyExecutable(t *testing.T, to string) {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// All of it works for an ordinary user. Root runs this package's tests once
// more as somebody who is nobody.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("this is one")
	}
	needNamespaces(t)
	dir := stateDir(t)
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "test")
	copyExecutable(t, exe)
	cmd := exec.Command(exe, "-test.v=true", "-test.count=1")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "CI=" + os.Getenv("CI")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "--- PASS: Test"); n < 10 {
		t.Errorf("only %d tests ran:\n%s", n, out)
	}
}

// A supervisor that makes and ends pods for days keeps nothing of them.
func TestPodsLeaveNothingInTheSupervisor(t *testing.T) {
	inMesh(t, func(m *mesh) {
		count := func() (files, links, mounts int) {
			f, _ := os.ReadDir("/proc/self/fd")
			l, _ := os.ReadDir("/sys/class/net")
			b, _ := os.ReadFile("/proc/self/mountinfo")
			return len(f), len(l), strings.Count(string(b), "\n")
		}
		cycle := func() {
			for i := range 4 {
				p := m.pod(fmt.Sprint("p", i))
				p.run("echo x")
				_, out := p.start(sandbox.ContainerSpec{Name: "app", Argv: []string{"/bin/sh", "-c", "echo up; exec sleep 1000"}})
				out.waitFor(m.T, "up")
				q, err := p.Exec(m.Context(), "app", sandbox.ExecSpec{Argv: []string{"true"}, TTY: true})
				if err != nil {
					m.Fatal(err)
				}
				q.Wait()
				p.Kill()
				<-p.Done()
			}
		}
		cycle()
		files, links, mounts := count()
		for range 3 {
			cycle()
		}
		files2, links2, mounts2 := count()
		if files2 > files+3 || links2 != links || mounts2 != mounts {
			m.Errorf("files %d, then %d; links %d, %d; mounts %d, %d", files, files2, links, links2, mounts, mounts2)
		}
	})
}

// Pods can be made at the same time, as they are when a mesh starts.
func TestPodsAtOnce(t *testing.T) {
	inMesh(t, func(m *mesh) {
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				p := m.pod(fmt.Sprint("p", i))
				if out, s := p.run("echo hello"); s.Code != 0 || out != "hello" {
					m.Errorf("%s %+v", out, s)
				}
			})
		}
		wg.Wait()
		m.Logf("10 pods with a container each after %v", time.Since(start))
	})
}

// Inside a container engine parts of /proc and /etc are mounted over, which
// the kernel then lets nobody uncover: overlays over such directories, and new
// /proc mounts, are refused.
func TestInsideContainerEngine(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	needNamespaces(t)
	run := func(setup, test string) string {
		t.Helper()
		cmd := exec.Command("unshare", "-m", "sh", "-ec", setup+`; exec /proc/self/fd/3 -test.run="^$1$" -test.v=true -test.count=1`, "sh", test)
		exe, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		defer exe.Close()
		cmd.ExtraFiles = []*os.File{exe}
		cmd.Env = append(os.Environ(), "MALLA_TEST_FINDINGS=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return string(out)
	}
	run("mount --bind /etc/hosts /etc/hosts; mkdir -p /etc/apt; mount --bind /etc/apt /etc/apt", "TestMountsAnywhere")
	out := run("mount -t tmpfs none /proc/fs", "TestFindings")
	if !strings.Contains(out, "finding: mount /proc in a PID namespace: operation not permitted") {
		t.Errorf("no finding about /proc in\n%s", out)
	}
}

// TestFindings prints what Probe says, for other tests to read.
func TestFindings(t *testing.T) {
	if os.Getenv("MALLA_TEST_FINDINGS") == "" {
		t.Skip("part of other tests")
	}
	for _, f := range sandbox.Probe() {
		fmt.Println("finding:", f)
	}
}

// A limit of zero namespaces is named with the command that lifts it.
func TestNamespaceLimit(t *testing.T) {
	needNamespaces(t)
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	cmd := exec.Command("unshare", "-U", "-r", "-m", "-p", "-f", "--mount-proc", "sh", "-ec", "echo 0 > /proc/sys/user/max_user_namespaces; exec /proc/self/fd/3 -test.run=^TestFindings$ -test.v=true")
	cmd.ExtraFiles = []*os.File{exe}
	cmd.Env = append(os.Environ(), "MALLA_TEST_FINDINGS=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"finding: create a user namespace: no space left on device", "sudo sysctl -w user.max_user_namespaces=15000"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// On a system that lets us, there is nothing to find.
func TestProbeIsQuickAndLeavesNothing(t *testing.T) {
	needNamespaces(t)
	start := time.Now()
	if f := sandbox.Probe(); len(f) > 0 {
		t.Errorf("findings: %v", f)
	}
	t.Logf("probed in %v", time.Since(start))
}
