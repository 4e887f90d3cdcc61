package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mallamesh/malla/local/internal/fdmsg"
	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/local/sandbox/internal/podinit"
	"github.com/mallamesh/malla/node/capture"
	"golang.org/x/sys/unix"
)

const defaultGrace = 30 * time.Second

// rootCaps are what applications keep where root runs the mesh: of a container
// engine's defaults those that do not touch the network or devices, for
// programs that start as root and become somebody else (nginx, redis).
var rootCaps = []uint{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL,
	unix.CAP_SETGID, unix.CAP_SETUID, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT,
}

// A Runtime makes the pods of one supervisor. It is safe for concurrent use.
type Runtime struct {
	dir        string
	net        *router.Router
	log        *slog.Logger
	systemDirs []string
	hidden     []string
	home       string
	caps       []uint // what applications keep

	mu     sync.Mutex // guards pods and closed
	pods   map[*Pod]struct{}
	closed bool
}

// volumes bounds what pods may write to volumes of theirs, all of them together: it is
// this machine's memory.
const volumes = "size=25%,nr_inodes=1m"

// New returns the runtime of the supervisor that calls it, whose network
// namespace net routes. dir is a directory of the host; a tmpfs of the
// supervisor's own covers it, so the host's stays empty. hidden are directories of
// the host that no container sees, also where a mount shows what is around them:
// dir's own is one. log may be nil.
func New(dir string, net *router.Router, log *slog.Logger, hidden ...string) (*Runtime, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of pods: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,"+volumes); err != nil {
		return nil, fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	r := &Runtime{dir: dir, net: net, log: log, pods: make(map[*Pod]struct{}), hidden: append([]string{dir}, hidden...)}
	if err := os.Mkdir(r.selfDir(), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of pods: %w", err)
	}
	if err := holdExecutable(filepath.Join(r.selfDir(), "malla")); err != nil {
		return nil, err
	}
	if err := copyEtc("/etc", r.etcDir()); err != nil {
		return nil, fmt.Errorf("copy what pods see of /etc: %w", err)
	}
	r.home = "/home/app"
	if os.Getuid() == 0 {
		r.home = "/root"
		if uids := allIDs("/proc/self/uid_map"); len(uids) > 1 || len(uids) == 1 && uids[0].Size > 1 {
			r.caps = rootCaps
		}
	}
	r.systemDirs = systemDirs(os.Getenv("PATH"))
	return r, nil
}

func (r *Runtime) selfDir() string { return filepath.Join(r.dir, ".self") }
func (r *Runtime) etcDir() string  { return filepath.Join(r.dir, ".etc") }

// holdExecutable makes our executable appear at p for good. "go run" deletes
// it while we run: a mount made before keeps the file. If it has gone already,
// p is a copy.
func holdExecutable(p string) error {
	if err := os.WriteFile(p, nil, 0o755); err != nil {
		return fmt.Errorf("hold our executable: %w", err)
	}
	if exe, err := os.Executable(); err == nil && sameFile(exe, "/proc/self/exe") {
		if unix.Mount(exe, p, "", unix.MS_BIND, "") == nil {
			return nil
		}
	}
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("hold our executable: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("hold our executable: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return fmt.Errorf("copy our executable: %w", err)
	}
	return out.Close()
}

func sameFile(a, b string) bool {
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(sa, sb)
}

// systemDirs are the directories that containers see of the machine: where
// programs and their libraries are, and what else PATH names. A bin directory
// below the user's home brings its parent (a toolchain's lib), unless that is
// a directory that also holds the user's own things.
func systemDirs(pathList string) []string {
	dirs := []string{"/usr", "/bin", "/sbin", "/opt", "/nix", "/gnu", "/snap"}
	libs, _ := filepath.Glob("/lib*")
	dirs = append(dirs, libs...)
	home, _ := os.UserHomeDir()
	for _, d := range filepath.SplitList(pathList) {
		d = filepath.Clean(d)
		if !filepath.IsAbs(d) || d == "/" {
			continue
		}
		if up := filepath.Dir(d); filepath.Base(d) == "bin" && up != "/" && up != home && filepath.Dir(up) != home && !strings.HasPrefix(home+"/", up+"/") {
			d = up
		}
		if within(d, []string{"/etc", "/proc", "/sys", "/dev", "/tmp", "/run", "/var"}) || d == home || strings.HasPrefix(home, d+"/") {
			continue
		}
		if !within(d, dirs) {
			dirs = append(dirs, d)
		}
	}
	slices.SortFunc(dirs, func(a, b string) int { return len(a) - len(b) })
	return dirs
}

func within(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
}

// Create makes a pod's namespaces, addresses, capture rules and init. The pod
// has no containers yet. It is the caller's to Stop or Kill; ctx bounds only
// the making.
func (r *Runtime) Create(ctx context.Context, s PodSpec) (*Pod, error) {
	if s.UID == "" || strings.ContainsAny(s.UID, "/\x00") || strings.HasPrefix(s.UID, ".") {
		return nil, fmt.Errorf("pod %s/%s: UID %q, want a name of letters, digits and dashes", s.Namespace, s.Name, s.UID)
	}
	if s.Hostname == "" {
		s.Hostname = s.Name
	}
	s.Hostname = s.Hostname[:min(len(s.Hostname), 63)]
	if s.GracePeriod <= 0 {
		s.GracePeriod = defaultGrace
	}
	p := &Pod{
		runtime: r, spec: s, scratch: filepath.Join(r.dir, s.UID), netns: -1,
		done: make(chan struct{}), procs: make(map[uint64]*Process), waiting: make(map[uint64]chan answer),
		log: r.log.With("pod", s.Namespace+"/"+s.Name),
	}
	if err := r.add(p); err != nil {
		return nil, err
	}
	if err := p.create(ctx); err != nil {
		p.Kill()
		p.release()
		return nil, fmt.Errorf("pod %s/%s: %w", s.Namespace, s.Name, err)
	}
	return p, nil
}

func (r *Runtime) add(p *Pod) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("the runtime is closed")
	}
	r.pods[p] = struct{}{}
	return nil
}

// Close kills every pod.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	var pods []*Pod
	for p := range r.pods {
		pods = append(pods, p)
	}
	r.mu.Unlock()
	for _, p := range pods {
		p.Kill()
		<-p.done
	}
	return nil
}

// create makes what the kernel holds for a pod.
func (p *Pod) create(ctx context.Context) error {
	if err := os.MkdirAll(p.Dir(), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	ready := make(chan error, 1)
	// The pod's network namespace begins as that of a thread, from which the init
	// is forked. While the init loads (most of the time this takes), the thread
	// sets the network up.
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open network namespace: %w", err)
		}
		p.netns = ns
		if err := p.startInit(); err != nil {
			return err
		}
		go func() { ready <- p.handshake(ctx) }()
		return p.setUpNetwork()
	})
	if err != nil {
		return err
	}
	return <-ready
}

// setUpNetwork runs on a thread in the pod's network namespace.
func (p *Pod) setUpNetwork() error {
	link, err := p.runtime.net.AttachPod(p.netns, p.spec.IPs)
	if err != nil {
		return fmt.Errorf("attach to the router: %w", err)
	}
	p.mu.Lock()
	p.link = link
	gone := p.gone
	p.mu.Unlock()
	if gone { // release has been and had nothing to detach
		_ = p.runtime.net.DetachPod(link)
		return errGone
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0); err != nil {
		return fmt.Errorf("let applications use low ports: %w", err)
	}
	// ping works without capabilities where the group is allowed.
	gid := os.Getgid()
	_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", fmt.Appendf(nil, "%d %d", gid, gid), 0)
	if p.spec.Capture != nil {
		if err := capture.Install(*p.spec.Capture); err != nil {
			return fmt.Errorf("install capture rules: %w", err)
		}
	}
	return nil
}

// startInit forks the init from the calling thread.
func (p *Pod) startInit() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "init"), os.NewFile(uintptr(fds[1]), "supervisor")
	defer theirs.Close()
	c, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return fmt.Errorf("use socketpair: %w", err)
	}
	p.conn = c.(*net.UnixConn)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"malla"}, podinit.Args...)
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=50"}
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
	if os.Getuid() != 0 {
		for c := uintptr(0); c <= lastCap(); c++ {
			cmd.SysProcAttr.AmbientCaps = append(cmd.SysProcAttr.AmbientCaps, c)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start init: %w", err)
	}
	p.mu.Lock()
	p.init = cmd
	p.mu.Unlock()
	go p.watch(cmd)
	return nil
}

// handshake tells the init what its pod is and waits until it is ready.
func (p *Pod) handshake(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.conn.SetDeadline(time.Unix(1, 0)) })
	err := fdmsg.Write(p.conn, podinit.Pod{
		Hostname: p.spec.Hostname, Scratch: p.scratch, SelfDir: p.runtime.selfDir(),
		EtcDir: p.runtime.etcDir(), Etc: p.etc(), SystemDirs: p.runtime.systemDirs, Hidden: p.runtime.hidden, Home: p.runtime.home,
		GraceMS: p.spec.GracePeriod.Milliseconds(),
	})
	if err != nil {
		return fmt.Errorf("talk to init: %w", err)
	}
	var r podinit.Report
	if _, err := fdmsg.Read(p.conn, &r); err != nil {
		return fmt.Errorf("wait for init: %w", err)
	}
	if !r.Ready {
		return fmt.Errorf("init: %s", r.Error)
	}
	if !stop() {
		return ctx.Err()
	}
	heard := make(chan struct{})
	p.mu.Lock()
	p.heard = heard
	p.mu.Unlock()
	go p.receive(heard)
	return nil
}

// etc are the files of /etc that are the pod's own.
func (p *Pod) etc() map[string]string {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	for _, ip := range p.spec.IPs {
		fmt.Fprintf(&hosts, "%s\t%s\n", ip, p.spec.Hostname)
	}
	addrs := make([]netip.Addr, 0, len(p.spec.HostAliases))
	for a := range p.spec.HostAliases {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range addrs {
		fmt.Fprintf(&hosts, "%s\t%s\n", a, strings.Join(p.spec.HostAliases[a], "\t"))
	}
	servers := p.spec.Nameserver
	if len(servers) == 0 {
		servers = router.DNSIPs[:1]
	}
	var resolv strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&resolv, "nameserver %s\n", s)
	}
	if len(p.spec.Search) > 0 {
		fmt.Fprintf(&resolv, "search %s\n", strings.Join(p.spec.Search, " "))
	}
	resolv.WriteString("options ndots:5\n")
	return map[string]string{
		"hosts": hosts.String(), "resolv.conf": resolv.String(), "hostname": p.spec.Hostname + "\n",
		"nsswitch.conf": nsswitch(),
	}
}

// nsswitch is the machine's, but host names come from files and DNS only:
// other sources (mdns, resolve, myhostname) ask daemons that know no mesh.
func nsswitch() string {
	b, err := os.ReadFile("/etc/nsswitch.conf")
	if err != nil {
		return "passwd: files\ngroup: files\nhosts: files dns\n"
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "hosts:") {
			out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	out.WriteString("hosts: files dns\n")
	return out.String()
}

// onThread runs f on a thread of its own, which ends with it: f may change what
// Linux keeps per thread. It is never the main thread, whose attributes /proc
// shows as the process's and which cannot end.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			done <- onThread(f) // holding the main thread, so the next is another
			runtime.UnlockOSThread()
			return
		}
		done <- f()
	}()
	return <-done
}
