//go:build linux

package sandbox_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/test/busy"
)

func argv(words ...string) func(*sandbox.ContainerSpec) {
	return func(c *sandbox.ContainerSpec) { c.Argv = words }
}

func mounts(list ...sandbox.Mount) func(*sandbox.ContainerSpec) {
	return func(c *sandbox.ContainerSpec) { c.Mounts = append(c.Mounts, list...) }
}

// volume makes a directory of files in the pod's scratch space.
func (p *testPod) volume(name string, files map[string]string) string {
	p.mesh.Helper()
	dir := filepath.Join(p.Dir(), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.mesh.Fatal(err)
	}
	for f, text := range files {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644); err != nil {
			p.mesh.Fatal(err)
		}
	}
	return dir
}

// What a container writes lands nowhere on the host, wherever it tries.
func TestWritesStayInTheContainer(t *testing.T) {
	marker := fmt.Sprintf("malla-test-%d", os.Getpid())
	dirs := []string{"/", "/tmp", "/var/tmp", "/var/log", "/var/lib", "/run", "/etc", "/usr", "/usr/bin", "/usr/local/bin", "/opt", "/root", "/home", "/dev/shm", "/srv", "/mnt", "/sys", "/proc/sys/kernel"}
	if os.Getenv(envInside) == "" {
		t.Setenv("MARKER", marker)
	}
	inMesh(t, func(m *mesh) {
		a, marker := m.pod("a"), os.Getenv("MARKER")
		script := "for d in " + strings.Join(dirs, " ") + "; do echo x > $d/" + marker + " && echo wrote $d; done 2>/dev/null"
		out, _ := a.run(script)
		for _, d := range []string{"/", "/tmp", "/var/tmp", "/var/log", "/var/lib", "/run", "/etc", "/home", "/dev/shm"} {
			if !strings.Contains(out+"\n", "wrote "+d+"\n") {
				m.Errorf("a container cannot write in %s, its own: %s", d, out)
			}
		}
		for _, d := range []string{"/usr", "/usr/bin", "/opt", "/sys", "/proc/sys/kernel"} {
			if strings.Contains(out+"\n", "wrote "+d+"\n") {
				m.Errorf("a container wrote in the machine's %s", d)
			}
		}
		for _, d := range dirs {
			if _, err := os.Lstat(filepath.Join(d, marker)); err == nil {
				m.Errorf("%s/%s is on the host", d, marker)
			}
		}
		if out, _ := a.run("ls /tmp /home /run/malla; ls /var/tmp"); strings.Contains(out, marker) {
			m.Errorf("a new container sees an old one's files: %s", out)
		}
		for _, try := range []string{
			"echo 1 > /proc/sys/net/ipv4/ip_forward", "echo x > /proc/sysrq-trigger", "mount -o remount,rw /usr", "mount -t tmpfs x /mnt",
			"umount /proc/sys", "echo core > /proc/sys/kernel/core_pattern", "mknod /tmp/sda b 8 0", "ls /proc/2/root/", "readlink /proc/1/fd/3", "echo x > /proc/1/fd/3", "date -s 2020-01-01", "hostname other",
			"test -w /usr/bin", "cat /dev/mem", "ls /.malla/skeleton", "test -e /proc/kcore && head -c1 /proc/kcore | grep -q .", "dmesg --clear",
		} {
			if out, s := a.run(try); s.Code == 0 {
				m.Errorf("a container could %q: %s", try, out)
			}
		}
	})
	for _, d := range dirs {
		if _, err := os.Lstat(filepath.Join(d, marker)); err == nil {
			t.Errorf("%s/%s is on the host", d, marker)
		}
	}
}

// ConfigMaps, Secrets and emptyDirs are mounted anywhere, whether or not the
// machine has the directory.
func TestMountsAnywhere(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		conf := a.volume("conf", map[string]string{"default.conf": "server {}"})
		html := a.volume("html", map[string]string{"index.html": "hello"})
		inner := a.volume("inner", map[string]string{"x": "inner"})
		empty := a.volume("empty", nil)
		all := mounts(
			sandbox.Mount{Path: "/usr/share/nginx/html/deep/x", Source: filepath.Join(inner, "x"), ReadOnly: true},
			sandbox.Mount{Path: "/etc/nginx/conf.d", Source: conf, ReadOnly: true},
			sandbox.Mount{Path: "/usr/share/nginx/html", Source: html, ReadOnly: true},
			sandbox.Mount{Path: "/usr/share/malla-none/deep/down", Source: inner},
			sandbox.Mount{Path: "/etc/malla-none/file.conf", Source: filepath.Join(conf, "default.conf"), ReadOnly: true},
			sandbox.Mount{Path: "/var/run/secrets/kubernetes.io/serviceaccount", Source: inner, ReadOnly: true},
			sandbox.Mount{Path: "/data", Source: empty},
			sandbox.Mount{Path: "/data/in/data", Source: inner, ReadOnly: true},
			sandbox.Mount{Path: "/opt/malla-none", Source: inner},
			sandbox.Mount{Path: "/etc/hosts", Source: filepath.Join(inner, "x"), ReadOnly: true},
		)
		out, s := a.run(`cat /etc/nginx/conf.d/default.conf /usr/share/nginx/html/index.html /usr/share/nginx/html/deep/x /usr/share/malla-none/deep/down/x \
			/etc/malla-none/file.conf /run/secrets/kubernetes.io/serviceaccount/x /data/in/data/x /opt/malla-none/x /etc/hosts
			test -e /etc/passwd && test -e /usr/share/zoneinfo -o -d /usr/share/doc && echo " rest"
			cat /etc/nsswitch.conf | grep -q 'hosts: files dns' && echo ours`, all)
		if want := "server {}helloinnerinnerserver {}innerinnerinnerinner rest\nours"; s.Code != 0 || out != want {
			m.Errorf("got %q (%d), want %q", out, s.Code, want)
		}
		if out, s := a.run("echo more >> /etc/nginx/conf.d/default.conf", all); s.Code == 0 {
			m.Errorf("wrote in a read-only mount: %s", out)
		}
		if out, s := a.run("echo kept > /data/file", all); s.Code != 0 {
			m.Errorf("write in an emptyDir: %s", out)
		}
		if out, _ := a.run("cat /data/file", all); out != "kept" {
			m.Errorf("the pod's other container sees %q in the emptyDir, want kept", out)
		}
		if b, err := os.ReadFile(filepath.Join(empty, "file")); err != nil || string(b) != "kept\n" {
			m.Errorf("the caller sees %q, %v", b, err)
		}
		for _, bad := range []struct {
			mount sandbox.Mount
			want  string
		}{
			{sandbox.Mount{Path: "rel", Source: empty}, "want absolute paths"},
			{sandbox.Mount{Path: "/", Source: empty}, "cannot be mounted over"},
			{sandbox.Mount{Path: "/x", Source: empty + "/none"}, "no such file"},
			{sandbox.Mount{Path: "/etc/passwd", Source: empty}, "is a file"},
			{sandbox.Mount{Path: "/usr", Source: filepath.Join(inner, "x")}, "is a directory"},
		} {
			_, err := a.Start(m.Context(), sandbox.ContainerSpec{Name: "bad", Argv: []string{"/bin/true"}, Mounts: []sandbox.Mount{bad.mount}})
			if err == nil || !strings.Contains(err.Error(), bad.want) {
				m.Errorf("mount %+v: %v, want %q", bad.mount, err, bad.want)
			}
		}
	})
}

func TestEnvironment(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a", func(s *sandbox.PodSpec) { s.Hostname = "web-0" })
		out, _ := a.run("", argv("/bin/sh", "-c", `echo "$0|$1|$A|$PATH|$HOME|$HOSTNAME|$PWD"`, "zero", "one two"), func(c *sandbox.ContainerSpec) {
			c.Env = []string{"A=b c", "PATH=/usr/bin:/bin"}
			c.Dir = "/work/dir"
		})
		home := "/home/app"
		if os.Getuid() == 0 {
			home = "/root"
		}
		want(m, "argv, env and directory", out, "zero|one two|b c|/usr/bin:/bin|"+home+"|web-0|/work/dir")
		out, s := a.run("touch ~/x && id -u && ps -e -o comm= | grep -c sleep; ls /proc/1/root 2>&1 | head -1; command -v ls")
		if s.Code != 0 || !strings.HasPrefix(out, fmt.Sprint(os.Getuid())+"\n0\n") {
			m.Errorf("home, user, own processes: %q (%d)", out, s.Code)
		}
		out, _ = a.run("cat /proc/self/status | grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' | tr -d '\\t\\n'")
		none := "0000000000000000"
		if os.Getuid() == 0 {
			none = "00000000000404fb" // chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service, sys_chroot
		}
		want(m, "an application's capabilities", out, "CapPrm:"+none+"CapEff:"+none+"CapBnd:"+none+"CapAmb:"+none+"NoNewPrivs:1")
		out, _ = a.run("grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | tr -d '\\t\\n'", func(c *sandbox.ContainerSpec) { c.Sidecar = true })
		const admin = "0000000000001000"
		want(m, "a sidecar's capabilities", out, "CapPrm:"+admin+"CapEff:"+admin+"CapBnd:"+admin)
		if os.Getuid() == 0 {
			out, _ = a.run("setpriv --reuid 33 --regid 33 --init-groups id -u && chown 33 /tmp && ls -ldn /tmp | grep -q ' 33 ' && echo owned")
			want(m, "a program that starts as root and becomes somebody else", out, "33\nowned")
		}
		out, _ = a.run("command -v ping >/dev/null || exec echo pong; ping -c1 -W1 169.254.1.1 >/dev/null && echo pong")
		want(m, "ping", out, "pong")
	})
}

func TestExitStatus(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		for _, test := range []struct {
			command string
			want    sandbox.ExitStatus
		}{
			{"exit 0", sandbox.ExitStatus{}},
			{"exit 7", sandbox.ExitStatus{Code: 7}},
			{"sh -c 'kill -9 $$'", sandbox.ExitStatus{Code: 137}},
			{"sh -c 'kill -15 $$'", sandbox.ExitStatus{Code: 143}},
			// pid_namespaces(7): process 1 is not ended from within, as in a cluster.
			{"kill -9 $$; kill -15 $$; sh -c 'kill -9 1'; exit 8", sandbox.ExitStatus{Code: 8}},
		} {
			if out, s := a.run(test.command); s != test.want {
				m.Errorf("%s: %+v %s, want %+v", test.command, s, out, test.want)
			}
		}
		for _, test := range []struct{ argv0, dir, want string }{
			{"/no/such", "", "/no/such: no such file"},
			{"relative", "", "want an absolute path"},
			{"/etc/passwd", "", "permission denied"},
			{"/bin/true", "/etc/passwd", "not a directory"},
		} {
			_, err := a.Start(m.Context(), sandbox.ContainerSpec{Name: "bad", Argv: []string{test.argv0}, Dir: test.dir})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				m.Errorf("%s in %q: %v, want %q", test.argv0, test.dir, err, test.want)
			}
		}

		// A container's end takes along what it left behind.
		out, _ := a.run("(trap '' TERM HUP; sleep 1000) & (setsid sleep 1001 &) ; sleep 0.1; ps -e -o args= | grep -c '^sleep 100'")
		want(m, "processes left behind, while it ran", out, "2")
		if left := pick(allProcesses(), "sleep 100"); len(left) > 0 {
			m.Errorf("processes left behind, and after: %v", left)
		}

		// Logs arrive whole, both streams, before Wait returns.
		out, _ = a.run("i=0; while [ $i -lt 2000 ]; do echo line $i; echo line $i >&2; i=$((i+1)); done")
		if n := strings.Count(out, "line "); n != 4000 {
			m.Errorf("%d of 4000 lines", n)
		}
	})
}

func TestSignals(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		q, out := a.start(sandbox.ContainerSpec{Name: "app", Argv: []string{"/bin/sh", "-c", "trap 'echo got hup' HUP; trap 'echo got term; exit 3' TERM; echo up; while :; do sleep 0.01; done"}})
		out.waitFor(m.T, "up")
		if err := q.Signal(syscall.SIGHUP); err != nil {
			m.Error(err)
		}
		out.waitFor(m.T, "got hup")
		if err := q.Signal(syscall.SIGTERM); err != nil {
			m.Error(err)
		}
		if s := q.Wait(); s.Code != 3 {
			m.Errorf("%+v, want 3", s)
		}
		if err := q.Signal(syscall.SIGTERM); err != os.ErrProcessDone {
			m.Errorf("signal after the end: %v", err)
		}

		// A signal that nobody handles does what it does by default, also to process 1,
		// to which the kernel would not deliver it.
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGKILL} {
			for _, command := range [][]string{{"/bin/sleep", "1000"}, {"/bin/sh", "-c", "trap '' ALRM; sleep 1000; echo never"}} {
				if sig == syscall.SIGINT && len(command) > 2 {
					continue // shells handle it
				}
				q, _ := a.start(sandbox.ContainerSpec{Name: "deaf", Argv: command})
				for _, harmless := range []syscall.Signal{0, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGWINCH, sig} {
					if err := q.Signal(harmless); err != nil {
						m.Error(err)
					}
				}
				if s, want := q.Wait(), (sandbox.ExitStatus{Code: 128 + int(sig), Signal: sig}); s != want {
					m.Errorf("%v to %v: %+v, want %+v", sig, command, s, want)
				}
			}
		}
		// One that it ignores, it ignores.
		q, out = a.start(sandbox.ContainerSpec{Name: "deaf", Argv: []string{"/bin/sh", "-c", "trap '' TERM; trap 'echo got usr1; exit 9' USR1; echo up; while :; do sleep 0.01; done"}})
		out.waitFor(m.T, "up")
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR1} {
			if err := q.Signal(sig); err != nil {
				m.Error(err)
			}
		}
		if s := q.Wait(); s.Code != 9 {
			m.Errorf("%+v %q, want 9", s, out)
		}
		// One that it waits for, it gets.
		if _, err := os.Stat("/usr/bin/python3"); err == nil {
			q, out = a.start(sandbox.ContainerSpec{Name: "deaf", Argv: []string{"/usr/bin/python3", "-c", "import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [15, 10]); print('up', flush=True); a = signal.sigwait([15, 10]); b = signal.sigwait([15]); sys.exit(a+b)"}})
			out.waitFor(m.T, "up")
			for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM} {
				if err := q.Signal(sig); err != nil {
					m.Error(err)
				}
			}
			if s := q.Wait(); s.Code != 25 {
				m.Errorf("%+v %q, want 25", s, out)
			}
		}
		// The same for the stop from a terminal.
		q, out = a.start(sandbox.ContainerSpec{Name: "deaf", Argv: []string{"/bin/sh", "-c", "echo up; while :; do sleep 0.01; done"}})
		out.waitFor(m.T, "up")
		state := func(want string) func() bool {
			return func() bool {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", shell(a.Pid())))
				return strings.Contains(string(b), ") "+want)
			}
		}
		_ = q.Signal(syscall.SIGTSTP)
		eventually(m.T, "it is stopped", state("T"))
		_ = q.Signal(syscall.SIGCONT)
		eventually(m.T, "it goes on", func() bool { return !state("T")() })
		_ = q.Signal(syscall.SIGTERM)
		q.Wait()

		// Stop gives every container its SIGTERM, and the pod its grace.
		_, first := a.start(sandbox.ContainerSpec{Name: "one", Argv: []string{"/bin/sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"}})
		stubborn, second := a.start(sandbox.ContainerSpec{Name: "two", Argv: []string{"/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"}})
		first.waitFor(m.T, "up")
		second.waitFor(m.T, "up")
		busy.Record()
		start := time.Now()
		a.Stop(300 * time.Millisecond)
		if d := time.Since(start); d < 250*time.Millisecond || busy.Free(start, start.Add(d)) > 2*time.Second {
			m.Errorf("Stop took %v, want the grace period for the stubborn one", d)
		}
		if !strings.Contains(first.String(), "bye") {
			m.Errorf("the other was not asked to stop: %q", first)
		}
		if s := stubborn.Wait(); s.Code != 137 || !s.PodGone {
			m.Errorf("the stubborn one: %+v", s)
		}
		if _, err := os.Stat(a.Dir()); !os.IsNotExist(err) {
			m.Errorf("the pod's directory is still there: %v", err)
		}

		// Without stubborn ones the pod is gone at once.
		b := m.pod("b")
		_, out = b.start(sandbox.ContainerSpec{Argv: []string{"/bin/sh", "-c", "echo up; exec sleep 1000"}})
		out.waitFor(m.T, "up")
		start = time.Now()
		b.Stop(10 * time.Second)
		if d := busy.Free(start, time.Now()); d > 2*time.Second {
			m.Errorf("Stop took %v", d)
		}

		// The init passes on what it is sent itself.
		c := m.pod("c")
		last, out := c.start(sandbox.ContainerSpec{Argv: []string{"/bin/sh", "-c", "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.01; done"}})
		out.waitFor(m.T, "up")
		syscall.Kill(c.Pid(), syscall.SIGTERM)
		select {
		case <-c.Done():
		case <-time.After(5 * time.Second):
			m.Error("the init did not end after SIGTERM")
		}
		if s := last.Wait(); s.Code != 4 || s.PodGone || !strings.Contains(out.String(), "bye") {
			m.Errorf("the container: %+v, %q", s, out)
		}
	})
}

// shell is the first process below another.
func shell(pid int) int {
	if all := tree(pid); len(all) > 1 {
		return all[1].pid
	}
	return 0
}

func TestExec(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		app, out := a.start(sandbox.ContainerSpec{Name: "app", Dir: "/tmp", Env: []string{"A=1"}, Argv: []string{"/bin/sh", "-c", "echo secret > /tmp/file; echo up; exec sleep 1000"}})
		out.waitFor(m.T, "up")
		run := func(e sandbox.ExecSpec) (stdout, stderr string, s sandbox.ExitStatus) {
			m.Helper()
			var o, er bytes.Buffer
			e.Stdout, e.Stderr = &o, &er
			q, err := a.Exec(m.Context(), "app", e)
			if err != nil {
				m.Fatal(err)
			}
			s = q.Wait()
			return o.String(), er.String(), s
		}
		o, e, s := run(sandbox.ExecSpec{Argv: []string{"sh", "-c", `cat file; echo "$A $B"; echo err >&2; exit 5`}, Env: []string{"B=2"}})
		if o != "secret\n1 2\n" || e != "err\n" || s.Code != 5 {
			m.Errorf("got %q, %q, %+v", o, e, s)
		}
		if o, _, _ := run(sandbox.ExecSpec{Argv: []string{"cat"}, Stdin: strings.NewReader("from outside")}); o != "from outside" {
			m.Errorf("stdin: %q", o)
		}
		if o, _, _ := run(sandbox.ExecSpec{Argv: []string{"cat"}}); o != "" {
			m.Errorf("no stdin: %q", o)
		}
		o, _, _ = run(sandbox.ExecSpec{Argv: []string{"grep", "CapBnd", "/proc/self/status"}})
		if bits := strings.Fields(o); len(bits) != 2 || os.Getuid() != 0 && bits[1] != "0000000000000000" || strings.Contains(bits[1], "1000") {
			m.Errorf("capabilities: %q", o)
		}
		for _, test := range []struct{ container, command, want string }{
			{"none", "true", "container none does not run"},
			{"app", "no-such-command", "not found"},
		} {
			if _, err := a.Exec(m.Context(), test.container, sandbox.ExecSpec{Argv: []string{test.command}}); err == nil || !strings.Contains(err.Error(), test.want) {
				m.Errorf("%s in %s: %v, want %q", test.command, test.container, err, test.want)
			}
		}

		// It ends with its container.
		q, err := a.Exec(m.Context(), "app", sandbox.ExecSpec{Argv: []string{"sleep", "1000"}})
		if err != nil {
			m.Fatal(err)
		}
		app.Signal(syscall.SIGKILL)
		select {
		case <-q.Done():
		case <-time.After(5 * time.Second):
			m.Error("an exec outlived its container")
		}
	})
}

func TestTerminal(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		_, up := a.start(sandbox.ContainerSpec{Name: "app", Argv: []string{"/bin/sh", "-c", "echo up; exec sleep 1000"}})
		up.waitFor(m.T, "up")
		r, w := io.Pipe()
		out, resize := newBuffer(), make(chan sandbox.TerminalSize, 1)
		resize <- sandbox.TerminalSize{Width: 123, Height: 45}
		q, err := a.Exec(m.Context(), "app", sandbox.ExecSpec{Argv: []string{"/bin/sh"}, TTY: true, Stdin: r, Stdout: out, Resize: resize})
		if err != nil {
			m.Fatal(err)
		}
		io.WriteString(w, "PS1=; tty; echo $TERM; until [ \"$(stty size)\" = '45 123' ]; do sleep 0.01; done; echo sized; echo done-$((1+1))\n")
		out.waitFor(m.T, "done-2")
		for _, want := range []string{"/dev/pts/", "xterm", "sized"} {
			if !strings.Contains(out.String(), want) {
				m.Errorf("no %q in %q", want, out)
			}
		}
		// ^C reaches what runs in front, the end of input ends the shell.
		io.WriteString(w, "sh -c 'trap \"exit 0\" INT; echo in-$((2+2)); while :; do sleep 0.01; done'\n")
		out.waitFor(m.T, "in-4")
		io.WriteString(w, "\x03")
		io.WriteString(w, "echo after-$((3+3))\n")
		out.waitFor(m.T, "after-6")
		w.Close()
		select {
		case <-q.Done():
		case <-time.After(5 * time.Second):
			m.Errorf("the shell did not end: %q", out)
		}
		// A container with a terminal of its own.
		c, log := a.start(sandbox.ContainerSpec{Name: "tty", TTY: true, Stdin: true, Argv: []string{"/bin/sh", "-c", "tty; read x; echo got $x"}})
		log.waitFor(m.T, "/dev/pts/")
		io.WriteString(c.Stdin(), "word\n")
		if s := c.Wait(); s.Code != 0 || !strings.Contains(log.String(), "got word") {
			m.Errorf("%+v %q", s, log)
		}
	})
}

// Start and Exec that are given up leave nothing running.
func TestGivenUpStart(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		ctx, cancel := context.WithCancel(m.Context())
		cancel()
		if _, err := a.Start(ctx, sandbox.ContainerSpec{Name: "x", Argv: []string{"/bin/sleep", "777"}}); err == nil {
			m.Skip("it was faster")
		}
		eventually(m.T, "it does not run", func() bool { return len(pick(allProcesses(), "/bin/sleep 777")) == 0 })
		if _, err := a.runtime().Create(ctx, sandbox.PodSpec{Name: "y", UID: "y"}); err == nil {
			m.Error("a pod was created in spite of its context")
		}
		if _, err := a.runtime().Create(m.Context(), sandbox.PodSpec{Name: "y", UID: "../y"}); err == nil {
			m.Error("a UID with slashes was accepted")
		}
	})
}

func (p *testPod) runtime() *sandbox.Runtime { return p.mesh.runtime }

// A server of the machine's runs as it does in a container, also one that
// starts as root and drops its privileges.
func TestNginxOfTheMachine(t *testing.T) {
	const nginx = "/usr/sbin/nginx"
	needTool(t, nginx, "nginx-light")
	needTool(t, "curl", "curl")
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		conf := a.volume("conf", map[string]string{"default.conf": "server { listen 80; listen [::]:80; location / { root /usr/share/nginx/html; } }"})
		html := a.volume("html", map[string]string{"index.html": "mounted\n"})
		main := a.volume("main", map[string]string{"nginx.conf": "user www-data; worker_processes 1; pid /run/nginx.pid; events {} http { access_log /dev/stdout; include /etc/nginx/conf.d/*.conf; }"})
		_, log := a.start(sandbox.ContainerSpec{Name: "nginx", Argv: []string{nginx, "-g", "daemon off;"}, Mounts: []sandbox.Mount{
			{Path: "/etc/nginx/nginx.conf", Source: filepath.Join(main, "nginx.conf"), ReadOnly: true},
			{Path: "/etc/nginx/conf.d", Source: conf, ReadOnly: true},
			{Path: "/usr/share/nginx/html", Source: html, ReadOnly: true},
		}})
		for _, addr := range []string{join(a.v4, 80), join(a.v6, 80)} {
			out, s := a.run("for i in 1 2 3 4 5 6 7 8 9 10; do curl -sS -m 5 http://" + addr + "/ && exit; sleep 0.1; done")
			if s.Code != 0 || !strings.HasSuffix(out, "mounted") {
				m.Errorf("%s: %q; nginx says %s", addr, out, log)
			}
		}
	})
}
