package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/mallamesh/malla/node/nft"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// probeArgs are the command line of the throw-away child.
var probeArgs = []string{"local", "probe"}

// As for a pod's init: no need to initialize all of a large binary.
func init() {
	if len(os.Args) > 2 && os.Args[1] == probeArgs[0] && os.Args[2] == probeArgs[1] {
		os.Exit(probeMain())
	}
}

// probeTimeout is for all that the child tries; it needs some 30 ms.
const probeTimeout = 10 * time.Second

// Probe tries each operation that a mesh needs in a throw-away child, and
// returns those that the system refuses; none means that all is well. It
// changes nothing.
func Probe() []Finding {
	attr := namespaced()
	out, err := tryChild(attr)
	if err != nil {
		return []Finding{explainStart(err)}
	}
	var tried []attempt
	if err := json.Unmarshal(out, &tried); err != nil {
		return []Finding{{Operation: "run a program in namespaces", Err: fmt.Errorf("it said %q", out), Fix: fixes()}}
	}
	var findings []Finding
	for _, a := range tried {
		if a.Errno != 0 || a.Error != "" {
			err := error(a.Errno)
			if a.Errno == 0 || a.Error != a.Errno.Error() {
				err = errors.New(a.Error)
			}
			findings = append(findings, Finding{Operation: a.Operation, Err: err, Fix: a.fix()})
		}
	}
	return findings
}

// An attempt is what the child says about one operation.
type attempt struct {
	Operation string        `json:"operation"`
	Error     string        `json:"error,omitempty"`
	Errno     syscall.Errno `json:"errno,omitempty"`
	Kind      string        `json:"kind"` // mount, net
}

// tryChild runs the child with attr and returns what it wrote.
func tryChild(attr *syscall.SysProcAttr) ([]byte, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"malla"}, probeArgs...)
	cmd.SysProcAttr = attr
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.Dir = "/"
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stdout = w
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	kill := time.AfterFunc(probeTimeout, func() { cmd.Process.Kill() })
	defer kill.Stop()
	out, readErr := io.ReadAll(r)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("the child ended with %w", err)
	}
	return out, readErr
}

// explainStart finds out which part of starting the child was refused.
func explainStart(err error) Finding {
	errno := unwrapErrno(err)
	user := namespaced()
	user.Cloneflags = unix.CLONE_NEWUSER
	if _, userErr := tryChild(user); userErr == nil {
		return Finding{Operation: "create mount, network, PID, UTS and IPC namespaces in a user namespace", Err: errno, Fix: fixes()}
	}
	bare := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	if _, bareErr := tryChild(bare); bareErr == nil {
		return Finding{Operation: "map the user into a user namespace", Err: errno, Fix: fixes()}
	}
	return Finding{Operation: "create a user namespace", Err: errno, Fix: fixes()}
}

func unwrapErrno(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// fixes names the settings that are known to forbid namespaces, and are set so
// here; if none is, what may be around us.
func fixes() string { return fixesFrom(readSetting, inContainer()) }

func fixesFrom(setting func(string) string, container bool) string {
	var out []string
	for _, s := range []struct{ path, bad, good string }{
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "0"},
		{"kernel/unprivileged_userns_clone", "0", "1"},
		{"user/max_user_namespaces", "0", "15000"},
		{"user/max_net_namespaces", "0", "15000"},
		{"user/max_mnt_namespaces", "0", "15000"},
		{"user/max_pid_namespaces", "0", "15000"},
	} {
		if setting(s.path) == s.bad {
			out = append(out, fmt.Sprintf("%s is %s: sudo sysctl -w %[1]s=%[3]s", strings.ReplaceAll(s.path, "/", "."), s.bad, s.good))
		}
	}
	if container {
		out = append(out, "this seems to be a container: start it with docker run --privileged, or with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined")
	}
	if len(out) == 0 {
		out = append(out, "a security module (seccomp, AppArmor, SELinux) or a kernel without CONFIG_USER_NS may be the reason; malla needs Linux 5.12 or newer")
	}
	return strings.Join(out, "; ")
}

func readSetting(path string) string {
	b, _ := os.ReadFile("/proc/sys/" + path)
	return strings.TrimSpace(string(b))
}

func inContainer() bool {
	for _, p := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(p); err == nil {
			return true
		}
	}
	b, _ := os.ReadFile("/proc/1/environ")
	return strings.Contains(string(b), "container=") || os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// fix is the hint for an operation that failed inside the namespaces.
func (a attempt) fix() string {
	switch {
	case a.Errno == unix.ENOSYS || a.Errno == unix.EINVAL && a.Kind == "mount":
		return "malla needs Linux 5.12 or newer"
	case a.Kind == "net" && (a.Errno == unix.EOPNOTSUPP || a.Errno == unix.ENOENT || a.Errno == unix.EPROTONOSUPPORT):
		return "load the kernel modules: sudo modprobe -a veth nf_tables nft_chain_nat nft_redir nft_numgen nft_fib_inet nft_reject_inet nf_conntrack"
	}
	return fixes()
}

// probeMain is the child: it tries, and writes the attempts. Each is in the
// order in which a mesh needs them, and a failure stops only what builds on it.
func probeMain() int {
	var tried []attempt
	try := func(kind, operation string, f func() error) bool {
		a := attempt{Operation: operation, Kind: kind}
		if err := f(); err != nil {
			a.Error = err.Error()
			errors.As(err, &a.Errno)
			if a.Errno != 0 {
				a.Error = a.Errno.Error()
			}
		}
		tried = append(tried, a)
		return a.Error == ""
	}
	private := func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }
	// With all namespaces, not only that of users; what follows needs the first.
	if os.Getpid() == 1 && try("mount", "make mounts private", private) {
		dir := "/proc" // any directory to mount over will do: all goes with us
		try("mount", "mount /proc in a PID namespace", func() error { return unix.Mount("proc", dir, "proc", 0, "") })
		try("mount", "bind directories and make them read-only (mount_setattr)", func() error {
			fd, err := unix.OpenTree(unix.AT_FDCWD, "/usr", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.MountSetattr(fd, "", unix.AT_RECURSIVE|unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		})
		try("net", "let programs use ports below 1024 (net.ipv4.ip_unprivileged_port_start)", func() error {
			return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
		})
		try("net", "connect network namespaces (veth)", probeVeth)
		try("net", "redirect connections (nftables)", probeRules)
		tmpfs := func() error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") }
		// Without a /tmp of our own there is no place to go on that is not the machine's.
		_ = try("mount", "mount tmpfs", tmpfs) && try("mount", "mount terminals (devpts)", func() error {
			if err := os.Mkdir("/tmp/pts", 0o700); err != nil {
				return err
			}
			return unix.Mount("devpts", "/tmp/pts", "devpts", 0, "newinstance,ptmxmode=0666")
		})
	}
	if err := json.NewEncoder(os.Stdout).Encode(tried); err != nil {
		return 1
	}
	return 0
}

func probeVeth() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns, err := netns.Get()
		if err != nil {
			return err
		}
		defer ns.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "probe"
		return h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns))})
	})
}

// probeRules adds a rule of each kind that capture and router use.
func probeRules() error {
	b, err := nft.NewBatch("malla-probe")
	if err != nil {
		return err
	}
	tcp := nft.Proto(unix.IPPROTO_TCP)
	pre := b.NAT("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	pre.Add(nft.DstType(unix.RTN_LOCAL), tcp, nft.Redirect(1))
	a := netip.MustParseAddrPort("192.0.2.1:1")
	pre.Add(nft.Dst(nft.Host(a.Addr())), tcp, nft.DstPort(1), b.Spread([]netip.AddrPort{a, netip.AddrPortFrom(a.Addr(), 2)}))
	out := b.NAT("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	out.Add(nft.NotMark(1), tcp, nft.Redirect(1))
	post := b.NAT("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	post.Add(b.Pairs("pairs", true).In(), nft.SNAT(a.Addr()))
	return b.Commit()
}
