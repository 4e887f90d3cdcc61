package shard

import (
	"bytes"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

// A page is a log that is read while it is written.
type page struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// A lack of descriptors is in the log once in ten seconds, with how often it was felt.
func TestShortageIsLogged(t *testing.T) {
	var s shortage
	var p page
	log, now := slog.New(slog.NewTextHandler(&p, nil)), time.Unix(1000, 0)
	said := func(want string) {
		t.Helper()
		s.tell(log, now)
		if got := p.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("the log says %q, want %q", got, want)
		}
		p.text.Reset()
	}
	said("")
	s.Accepts.Add(2)
	s.Connects.Add(1)
	said("accepts=2 connects=1")
	s.Connects.Add(3)
	for range 9 {
		now = now.Add(time.Second)
		said("")
	}
	s.Connects.Add(4)
	now = now.Add(time.Second)
	said("accepts=0 connects=7")
	now = now.Add(time.Hour)
	said("")
}

// A host to which no connection can be begun for lack of descriptors is counted; one that refuses is not.
func TestConnectsWithoutDescriptorsAreCounted(t *testing.T) {
	b := newBench(t, []route.RouteConfig{to("app")}, static("app"))
	b.endpoints("app", app1)
	var s drive.Shortage
	b.Loop.CountShortage(&s)
	for _, err := range []error{unix.ECONNREFUSED, unix.EMFILE, unix.ENFILE} {
		b.Refuse(func(drive.Dial) error { return err })
		has(t, b.do(get("/")), "HTTP/1.1 503 ")
	}
	if n := s.Connects.Load(); n != 2 {
		t.Errorf("%d were counted, want 2", n)
	}
}

// A client that cannot be accepted for lack of descriptors waits, is counted, and is served when there are some.
func TestAcceptsWithoutDescriptorsAreCounted(t *testing.T) {
	l := newLive(t, "127.0.0.1:9", 1)
	addr, _ := l.Addr("http")
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	least := limit
	least.Cur = 3
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &least); err != nil {
		t.Skip(err)
	}
	restore := sync.OnceFunc(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
	defer restore()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); l.short.Accepts.Load() == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("nothing was counted")
		}
	}
	restore()
	if _, err := unix.Write(fd, []byte(get("/"))); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 100)
	if n, err := unix.Read(fd, answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 ") {
		t.Errorf("the client got %q, %v", answer[:max(n, 0)], err)
	}
}
