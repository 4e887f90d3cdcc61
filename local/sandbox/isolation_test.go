//go:build linux

package sandbox_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mallamesh/malla/local/sandbox"
)

// attack is a program of a pod's: it tries everything on every process that it
// can name, but for itself, and prints what it got.
func attack() {
	mem := make([]byte, 16)
	for pid := 1; pid < 400; pid++ {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", pid)); err == nil {
			continue // ourselves
		}
		proc := fmt.Sprintf("/proc/%d", pid)
		for _, f := range []string{"environ", "maps", "mem", "auxv", "stack", "syscall", "io"} {
			if b, err := os.Open(proc + "/" + f); err == nil {
				if n, _ := b.Read(mem); n > 0 {
					fmt.Println("read", pid, f)
				}
				b.Close()
			}
		}
		for _, d := range []string{"fdinfo", "root", "cwd", "map_files"} {
			if entries, err := os.ReadDir(proc + "/" + d); err == nil && len(entries) > 0 {
				fmt.Println("read", pid, d)
			}
		}
		links := []string{"exe", "ns/mnt", "ns/pid"}
		for fd := range 32 { // their numbers may be seen
			links = append(links, fmt.Sprint("fd/", fd))
		}
		for _, l := range links {
			if _, err := os.Readlink(proc + "/" + l); err == nil {
				fmt.Println("read", pid, l)
			}
		}
		if err := syscall.PtraceAttach(pid); err == nil {
			fmt.Println("traced", pid)
			_ = syscall.PtraceDetach(pid)
		}
		if _, init := os.Stat(fmt.Sprintf("/proc/1/task/%d", pid)); init != nil && syscall.Kill(pid, 0) == nil {
			fmt.Println("could signal", pid)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = syscall.Kill(-1, syscall.SIGKILL) // everything that it may
	fmt.Println("done")
}

// An application, root too, cannot signal, trace or read its sidecar, nor see
// what the sidecar has mounted. The same holds for a process that was added to its container.
func TestAnApplicationAndItsSidecarAreApart(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		keys := a.volume("keys", map[string]string{"token": "sidecar-token"})
		sidecar, log := a.start(sandbox.ContainerSpec{Name: "istio-proxy", Sidecar: true, Env: []string{"KEY=sidecar-secret"},
			Argv:   []string{"/bin/sh", "-c", "cat /var/run/secrets/tokens/token; echo key > /tmp/key; echo sidecar-up; while :; do sleep 1000; done"},
			Mounts: []sandbox.Mount{{Path: "/var/run/secrets/tokens", Source: keys, ReadOnly: true}}})
		log.waitFor(m.T, "sidecar-up")
		app, up := a.start(sandbox.ContainerSpec{Name: "app", Argv: []string{"/bin/sh", "-c", "echo up; while :; do sleep 1000; done"}})
		up.waitFor(m.T, "up")

		out, s := a.runArgs(sandbox.Self, "pod-test", "attack")
		if s.Code != 0 || out != "done" {
			m.Errorf("an application got (%+v):\n%s", s, out)
		}
		got := newBuffer()
		q, err := a.Exec(m.Context(), "app", sandbox.ExecSpec{Stdout: got, Stderr: got,
			Argv: []string{"/bin/sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null | grep -ac sidecar-secret; ps -e -o args= | grep -c '[s]idecar-up'; ls -A /var/run/secrets/tokens /tmp 2>&1 | grep -v cannot; find / -xdev -name token 2>/dev/null"}})
		if err != nil {
			m.Fatal(err)
		}
		q.Wait()
		if s := got.String(); !strings.HasPrefix(s, "0\n0\n") || strings.Contains(s, "key") || strings.Contains(s, "token\n") {
			m.Errorf("seen from the application's container: %s", s)
		}
		alive := func() {
			m.Helper()
			for name, p := range map[string]*sandbox.Process{"sidecar": sidecar, "application": app} {
				select {
				case <-p.Done():
					m.Errorf("the %s has gone: %+v", name, p.Wait())
				default:
				}
			}
		}
		alive()
		// A kill of everything ends what the kernel lets it: the rest of its container.
		other, err := a.Exec(m.Context(), "app", sandbox.ExecSpec{Argv: []string{"sleep", "1000"}})
		if err != nil {
			m.Fatal(err)
		}
		if _, err := a.Exec(m.Context(), "app", sandbox.ExecSpec{Argv: []string{"/bin/sh", "-c", "kill -9 -1"}}); err != nil {
			m.Error(err)
		}
		if s := other.Wait(); s.Code != 137 || s.PodGone {
			m.Errorf("the other process: %+v", s)
		}
		alive()
	})
}

// A container's command is its process 1, and its end is the container's; of ours
// nothing stays there.
func TestACommandIsProcess1(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		_, other := a.start(sandbox.ContainerSpec{Name: "other", Argv: []string{"/bin/sh", "-c", "echo up; exec sleep 1000"}})
		other.waitFor(m.T, "up")
		q, out := a.start(sandbox.ContainerSpec{Name: "app", Argv: []string{"/bin/sh", "-c", "trap '' TERM; setsid sleep 4001 & echo up as $$; sleep 4002"}})
		out.waitFor(m.T, "up as 1\n")
		e, err := a.Exec(m.Context(), "app", sandbox.ExecSpec{Argv: []string{"sleep", "4003"}})
		if err != nil {
			m.Fatal(err)
		}
		if all := tree(a.Pid()); len(pick(all, "malla")) != 1 || len(pick(all, "sleep 4002")) == 0 {
			m.Errorf("want no process of ours but the pod's init: %v", all)
		}
		for _, p := range pick(tree(a.Pid()), "up as") {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		if s := q.Wait(); s.Code != 137 || s.Signal != syscall.SIGKILL || s.PodGone {
			m.Errorf("the container: %+v", s)
		}
		select {
		case <-e.Done():
		case <-time.After(5 * time.Second):
			m.Error("what was added to it runs on")
		}
		if left := pick(allProcesses(), "sleep 400"); len(left) > 0 {
			m.Errorf("left: %v", left)
		}
		// It has a session, and no descriptor that it was not given.
		out2, _ := a.run("echo $(cut -d' ' -f6 /proc/1/stat) $(ls /proc/1/fd)")
		want(m, "session and descriptors (3 is a pipe of the shell's)", out2, "1 0 1 2 3")
		e, err = a.Exec(m.Context(), "other", sandbox.ExecSpec{Argv: []string{"/bin/sh", "-c", "echo $(ls /proc/$$/fd)"}, Stdout: out})
		if err != nil {
			m.Fatal(err)
		}
		e.Wait()
		if !strings.HasSuffix(out.String(), "\n0 1 2 3\n") {
			m.Errorf("descriptors of what is added: %q", out)
		}
		// Its name is free again, and the other has seen nothing.
		if out, s := a.run("echo again", func(c *sandbox.ContainerSpec) { c.Name = "app" }); out != "again" {
			m.Errorf("started again: %q %+v", out, s)
		}
		if now := pick(tree(a.Pid()), "sleep 1000"); len(now) != 1 {
			m.Errorf("the other: %v", now)
		}
	})
}

// Of the machine's files a pod sees programs, libraries, and of /etc what every
// user may read and programs need. Root's pods hold CAP_DAC_OVERRIDE: no mode
// would keep them out.
func TestWhatAPodSeesOfTheMachine(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		for _, p := range []string{
			"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/passwd-", "/etc/sudoers", "/etc/sudoers.d", "/etc/ssh", "/etc/ssl/private",
			"/etc/machine-id", "/etc/fstab", "/etc/cron.d", "/etc/crontab", "/etc/kubernetes", "/etc/rancher", "/etc/docker", "/etc/NetworkManager", "/etc/wpa_supplicant", "/etc/wireguard", "/etc/ppp", "/etc/krb5.keytab",
			"/run/docker.sock", "/var/run/docker.sock", "/run/containerd", "/run/dbus", "/run/systemd", "/run/user", "/root/.ssh", "/root/.bash_history", "/boot", "/media", "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/kvm", "/dev/net",
		} {
			if out, s := a.run("ls -lad " + p); s.Code == 0 {
				m.Errorf("a pod sees %s", out)
			}
		}
		// Empty of the machine's: directories with names only, and the container's own.
		out, _ := a.run("find /home /root /srv /mnt /media /tmp /run /var -type f -o -type s -o -type b -o -type c 2>/dev/null | grep -v '/bin/\\|/shims/'") // a PATH with directories of tools in the home
		want(m, "files in directories that are the container's own", out, "")
		out, _ = a.run("find /etc ! -perm -004 ! -type l 2>/dev/null; find /etc -name '*shadow*' -o -name '*.key' -o -name sudoers -o -name private")
		want(m, "files of /etc that are not everybody's", out, "")
		out, _ = a.run("for f in kcore keys iomem kallsyms slabinfo; do [ -e /proc/$f ] && head -c1 /proc/$f; done; ls -A /sys/firmware /sys/kernel/debug /sys/devices/virtual/dmi /proc/acpi 2>/dev/null | grep -v :")
		want(m, "the kernel's memory and serial numbers", strings.TrimSpace(out), "")
		out, _ = a.run("for f in $(find /proc/sys /proc/irq /proc/bus /sys -type f -perm /222 2>/dev/null | head -2000); do [ -w $f ] && echo $f; done | head -5")
		want(m, "writable settings of the kernel", out, "")
		// And what programs need is there.
		for _, try := range []string{
			"getent passwd " + strconv.Itoa(os.Getuid()), "getent services http 2>/dev/null || test ! -e /etc/services", "test -e /etc/ssl/certs -o -e /etc/pki", "test -e /etc/ld.so.cache -o -e /lib/ld-musl-x86_64.so.1",
			"date >/dev/null", "cat /etc/resolv.conf /etc/hosts /etc/hostname > /dev/null",
		} {
			if out, s := a.run(try); s.Code != 0 {
				m.Errorf("%s: %s (%d)", try, out, s.Code)
			}
		}
		for program, try := range map[string]string{
			"/usr/bin/python3": `/usr/bin/python3 -c 'import ssl, socket, json, zoneinfo; ssl.create_default_context(); print("well")'`,
			"node":             `node -e 'require("tls"); console.log("well")'`,
			"java":             `java -XX:TieredStopAtLevel=1 -Xshare:auto -version 2>&1 | grep -qi runtime && echo well`,
			"perl":             `perl -e 'use POSIX; print "well"'`,
			"curl":             `curl -sS https://127.0.0.1:1/ 2>&1 | grep -q 'Couldn.t connect\|Failed to connect' && echo well`,
			"busybox":          `busybox echo well`,
		} {
			if out, s := a.run("command -v " + program + " >/dev/null || { echo well; exit; }; " + try); out != "well" {
				m.Errorf("%s: %s (%d)", program, out, s.Code)
			}
		}
	})
}

// A mount of what lies around the mesh's own directory does not show that.
func TestTheMeshsOwnDirectoryIsHidden(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		if err := os.WriteFile(m.dir+"/pods/secret", []byte("key"), 0o644); err != nil {
			m.Fatal(err)
		}
		if err := os.WriteFile(m.dir+"/file", []byte("x"), 0o644); err != nil {
			m.Fatal(err)
		}
		out, s := a.run("cat /shown/file && ls -A /shown/pods; touch /shown/pods/x", mounts(sandbox.Mount{Path: "/shown", Source: m.dir, ReadOnly: true}))
		if !strings.HasPrefix(out, "x") || strings.Contains(out, "secret") || s.Code == 0 {
			m.Errorf("%q (%d)", out, s.Code)
		}
	})
}

// What a container writes is memory of the machine, of which it gets a part only.
func TestScratchSpaceHasABound(t *testing.T) {
	inMesh(t, func(m *mesh) {
		a := m.pod("a")
		total, _ := a.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")
		for dir, percent := range map[string]int{"/": 10, "/tmp": 10, "/etc": 10, "/volume": 25} {
			size, _ := a.run("df -k "+dir+" | awk 'NR==2 {print $2}'", func(c *sandbox.ContainerSpec) {
				c.Mounts = []sandbox.Mount{{Path: "/volume", Source: a.Dir()}}
			})
			have, err := strconv.Atoi(size)
			of, err2 := strconv.Atoi(total)
			if err != nil || err2 != nil || 100*have > of*(percent+1) || 100*have < of*(percent-1) {
				m.Errorf("%s: room for %s KB of %s, want %d %%", dir, size, total, percent)
			}
		}
	})
}
