package resolve

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// A system is what the machine says about names: files that are read anew when they have changed.
type system struct {
	confPath, hostsPath string

	mu       sync.Mutex // guards what follows
	resolv   file
	settings *dns.ClientConfig
	names    file
	table    map[string][]netip.Addr
}

// files are those of this machine.
var files = &system{confPath: "/etc/resolv.conf", hostsPath: "/etc/hosts"}

// A file knows which state of it has been read.
type file struct {
	looked, changed time.Time
	size            int64
}

// lookAgain is how long a file is taken to be what it was.
const lookAgain = 5 * time.Second

// fresh reports whether what was read of a file is still true.
func (f *file) fresh(path string) bool {
	now := time.Now()
	if !f.looked.IsZero() && now.Sub(f.looked) < lookAgain {
		return true
	}
	info, err := os.Stat(path)
	if err != nil {
		info = nil
	}
	var changed time.Time
	var size int64
	if info != nil {
		changed, size = info.ModTime(), info.Size()
	}
	same := !f.looked.IsZero() && changed.Equal(f.changed) && size == f.size
	f.looked, f.changed, f.size = now, changed, size
	return same
}

// conf returns what resolv.conf says; without it, the local host is asked.
func (s *system) conf() *dns.ClientConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resolv.fresh(s.confPath) && s.settings != nil {
		return s.settings
	}
	c, err := dns.ClientConfigFromFile(s.confPath)
	if err != nil {
		c = &dns.ClientConfig{Port: "53", Ndots: 1}
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{"127.0.0.1"}
	}
	s.settings = c
	return c
}

// hosts returns the addresses that the hosts file has for a name.
func (s *system) hosts(name string) []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.names.fresh(s.hostsPath) || s.table == nil {
		text, _ := os.ReadFile(s.hostsPath) // no file: no names
		s.table = parseHosts(text)
	}
	return s.table[hostKey(name)]
}

func hostKey(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// parseHosts reads a hosts file: an address and its names on each line.
func parseHosts(text []byte) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		a, err := netip.ParseAddr(words[0])
		if err != nil || a.Zone() != "" {
			continue
		}
		for _, name := range words[1:] {
			out[hostKey(name)] = append(out[hostKey(name)], a.Unmap())
		}
	}
	return out
}
