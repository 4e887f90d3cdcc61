package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// shownOfEtc are the names in the machine's /etc that containers see, as
// patterns of path.Match: what the C library, TLS, shells and language runtimes
// read, and the directories of well-known servers, which refer to files of their
// packages (nginx' mime.types). Everything else stays on the machine: a server
// gets what it needs from a ConfigMap or a Secret.
var shownOfEtc = []string{
	// users, names, time, language
	"passwd", "group", "nsswitch.conf", "host.conf", "gai.conf", "hosts.allow", "hosts.deny", "services", "protocols", "networks", "rpc", "ethertypes",
	"localtime", "timezone", "adjtime", "locale.alias", "locale.conf", "locale.gen", "default/locale", "os-release", "lsb-release", "*-release", "debian_version", "issue", "login.defs", "pam.conf", "pam.d", "security", "netconfig",
	// the dynamic linker, links to programs
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "ld-musl-*", "alternatives", "static", "shells",
	// TLS
	"ssl", "pki", "ca-certificates", "ca-certificates.conf", "crypto-policies", "gnutls",
	// shells, terminals, programs that people type
	"profile", "profile.d", "bash.bashrc", "bashrc", "bash_completion.d", "inputrc", "terminfo", "skel", "zsh", "fonts", "mime.types", "mailcap", "magic", "magic.mime", "papersize",
	"debuginfod", "screenrc", "vim", "nanorc", "emacs", "xml", "sgml", "xdg",
	// language runtimes
	"java*", "jvm*", "maven*", "gradle*", "ant*", "python*", "perl", "php*", "ruby*", "gemrc", "node*", "dotnet", "lua*", "R", "erlang", "elixir", "julia", "groff", "X11", "ImageMagick*", "odbc*.ini", "OpenCL",
	// servers
	"nginx", "apache2", "httpd", "lighttpd", "caddy", "haproxy", "varnish", "envoy", "tomcat*", "jetty*", "uwsgi*", "redis", "valkey", "memcached.conf", "mysql", "my.cnf", "mariadb", "postgresql", "postgresql-common", "mongod.conf", "rabbitmq",
}

// neverOfEtc are not shown even where somebody has made them readable.
var neverOfEtc = []string{
	"*shadow*", "gshadow*", "sudoers*", "ssh", "private", "*.key", "*-key.pem", "*_key", "*.p12", "*.pfx", "krb5.keytab", "*.keytab", ".htpasswd", "htpasswd*", "*.secret", "*secrets*", "*credentials*", "*.old", "*.bak", "*-",
}

const everybodyReads, everybodyEnters = 0o004, 0o001

// copyEtc makes what containers see of the machine's /etc: the names above, as
// far as every user of the machine may read them. So it makes no difference who
// runs the mesh: not root, whom no permission keeps out, nor a user who alone
// may read a file. A copy, because overlays and mirrors are made of it and
// because it cannot change under a running pod.
func copyEtc(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	for _, pattern := range shownOfEtc {
		names, err := filepath.Glob(from + "/" + pattern)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
		for _, p := range names {
			rel := strings.TrimPrefix(p, from+"/")
			if _, err := os.Lstat(path.Join(to, rel)); err == nil {
				continue // another pattern's
			}
			if err := os.MkdirAll(path.Dir(path.Join(to, rel)), 0o755); err != nil {
				return err
			}
			if err := copyReadable(p, path.Join(to, rel), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// Bounds of what is copied: configuration is smaller, and memory is not free.
const (
	maxEtcFile  = 8 << 20
	maxEtcDepth = 12
)

// copyReadable copies a file, link or directory, without what not everybody may
// read. What vanishes or cannot be read meanwhile is left out.
func copyReadable(from, to string, depth int) error {
	if never(path.Base(from)) || depth > maxEtcDepth {
		return nil
	}
	info, err := os.Lstat(from)
	if err != nil {
		return nil
	}
	switch mode := info.Mode(); {
	case mode&os.ModeSymlink != 0:
		link, err := os.Readlink(from)
		if err != nil {
			return nil
		}
		return os.Symlink(link, to)
	case mode.IsDir() && mode&(everybodyReads|everybodyEnters) == everybodyReads|everybodyEnters:
		entries, err := os.ReadDir(from)
		if err != nil {
			return nil
		}
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		for _, e := range entries {
			if err := copyReadable(from+"/"+e.Name(), to+"/"+e.Name(), depth+1); err != nil {
				return err
			}
		}
	case mode.IsRegular() && mode&everybodyReads != 0 && info.Size() <= maxEtcFile:
		return copyPlain(from, to)
	}
	return nil
}

func never(name string) bool {
	return slices.ContainsFunc(neverOfEtc, func(pattern string) bool {
		ok, _ := path.Match(pattern, strings.ToLower(name))
		return ok
	})
}

// copyPlain copies a regular file that everybody may read, as it is once it is
// open: somebody may change it meanwhile.
func copyPlain(from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode()&everybodyReads == 0 {
		return nil
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm()&0o755|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, maxEtcFile))
	return errors.Join(err, out.Close())
}
