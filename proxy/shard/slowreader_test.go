package shard

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/route"
)

const (
	readers    = 100
	readerMark = 16 << 10
	readerBody = 1 << 20
	gulp       = 256 << 10 // what a turn may read before anybody says that it is enough
)

// slow are clients, half of them of HTTP/2, that take a byte a second of a megabyte each.
type slow struct {
	*bench
	ones  []*drive.Pipe
	twos  []*peer2
	taken []int         // by ones
	hosts []*drive.Pipe // their other ends
}

func newSlow(t *testing.T, idle time.Duration) *slow {
	app := static("app")
	app.BufferLimit = readerMark
	b := &slow{bench: newBench(t, []route.RouteConfig{prefix("raw", "/slow", &route.ForwardConfig{Cluster: "app", Timeout: ptr(time.Duration(0))}), to("app")}, app)}
	b.rt.Listeners[0].BufferLimit = readerMark
	b.config.StreamIdle, b.config.FlushTimeout = idle, 30*time.Second
	b.endpoints("app", app1)
	body := strings.Repeat("x", readerBody)
	b.answer = func(_ *bench, p *drive.Pipe, request string) {
		if !strings.HasPrefix(request, "GET /slow ") {
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
			return
		}
		b.hosts = append(b.hosts, p)
		p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n" + body)
	}
	for range readers / 2 {
		one := b.dial()
		one.Window = 1
		one.WriteString(get("/slow"))
		two := newPeer2(b.dial(), false, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		two.get(1, "/slow")
		b.ones, b.twos = append(b.ones, one), append(b.twos, two)
	}
	b.taken = make([]int, readers/2)
	b.Step()
	if len(b.hosts) != readers {
		t.Fatalf("%d requests have reached the host, want %d", len(b.hosts), readers)
	}
	return b
}

// second passes.
func (b *slow) second() {
	for i, p := range b.ones {
		b.taken[i] += len(p.Take())
		b.twos[i].credit(1, 1)
	}
	b.Advance(time.Second)
}

// held is what was taken from the hosts.
func (b *slow) held() (n int) {
	for _, p := range b.hosts {
		n += readerBody - p.Unread()
	}
	return n
}

// For ten minutes each of them gets its bytes, the proxy takes no more of their megabytes than its marks allow, everybody else is
// answered, and when they have gone nothing of them is left.
func TestReadersOfAByteASecond(t *testing.T) {
	b := newSlow(t, 0)
	const seconds = 600
	first, other := b.held(), b.dial()
	if most := readers * (2*readerMark + gulp); first > most {
		t.Errorf("%d bytes were taken from the hosts, want %d at most", first, most)
	}
	for second := range seconds {
		other.WriteString(get("/"))
		b.second()
		if got := other.Take(); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
			t.Fatalf("second %d: another client's answer is %q", second, got)
		}
	}
	if now := b.held(); now > first+readers*seconds {
		t.Errorf("%d bytes were taken from the hosts, and %d at first, want no more than clients have taken", now, first)
	}
	for i := range b.ones {
		if b.taken[i] < seconds-1 || b.twos[i].body[1] < seconds {
			t.Errorf("readers %d have got %d bytes by HTTP/1.1 and %d by HTTP/2, want one for each of %d seconds", i, b.taken[i], b.twos[i].body[1], seconds)
		}
		b.ones[i].Reset()
		b.twos[i].p.Reset()
	}
	other.CloseWrite()
	b.Step()
	if st := b.rt.Clusters["app"].Stats; st.UpstreamRqActive.Value() != 0 || b.Open() != 0 || b.buffered() != 0 {
		t.Errorf("when all have gone %d requests are in flight, %d connections open and %d bytes held", st.UpstreamRqActive.Value(), b.Open(), b.buffered())
	}
}

// A stream on which only the client's buffer moves is idle, as in Envoy: hosts have their connections back when its time is up.
func TestReadersOfAByteASecondAreIdle(t *testing.T) {
	b := newSlow(t, 30*time.Second)
	for range 35 {
		b.second()
	}
	if n := b.rt.Clusters["app"].Stats.UpstreamRqActive.Value(); n != 0 {
		t.Errorf("%d requests are in flight after 35 seconds, want none after 30", n)
	}
	ended := 0
	for _, l := range b.log.lines {
		if strings.Contains(l, " SI ") {
			ended++
		}
	}
	if ended != readers {
		t.Errorf("%d are logged as idle, want %d", ended, readers)
	}
}
