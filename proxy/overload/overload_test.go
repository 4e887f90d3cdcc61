package overload

import (
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mallamesh/malla/proxy/stats"
)

type dice struct{}

func (dice) Random() uint64 { return rand.Uint64() }

// A share of nothing hits nobody, all of it everybody, and a part about so many; asking costs no memory.
func TestShare(t *testing.T) {
	var s Share
	for _, test := range []struct {
		share    float64
		from, to int
	}{{0, 0, 0}, {1, 10_000, 10_000}, {0.25, 2200, 2800}, {-1, 0, 0}, {2, 10_000, 10_000}} {
		s.Set(test.share)
		hits := 0
		for range 10_000 {
			if s.Hit(dice{}) {
				hits++
			}
		}
		if hits < test.from || hits > test.to {
			t.Errorf("%v: %d of 10000 were hit, want %d to %d", test.share, hits, test.from, test.to)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Hit(dice{}) }); n != 0 {
		t.Errorf("Hit allocates %v times, want 0", n)
	}
}

func TestTriggerState(t *testing.T) {
	for _, test := range []struct{ from, to, pressure, want float64 }{
		{0.9, 0.9, 0.89, 0}, {0.9, 0.9, 0.9, 1}, {0.9, 0.9, 1, 1}, // a threshold
		{0.5, 1, 0.5, 0}, {0.5, 1, 0.75, 0.5}, {0.5, 1, 1, 1}, {0.5, 0.9, 0.95, 1},
	} {
		trigger := Trigger{From: test.from, To: test.to}
		if got := trigger.State(test.pressure); got != test.want {
			t.Errorf("%v to %v at %v: %v, want %v", test.from, test.to, test.pressure, got, test.want)
		}
	}
}

func TestTimeoutScale(t *testing.T) {
	for _, test := range []struct {
		floor    Floor
		pressure float64
		d, want  time.Duration
	}{
		{Floor{Time: 2 * time.Second}, 0, time.Hour, time.Hour},
		{Floor{Time: 2 * time.Second}, 0.5, 10 * time.Second, 6 * time.Second},
		{Floor{Time: 2 * time.Second}, 1, 10 * time.Second, 2 * time.Second},
		{Floor{Time: 2 * time.Second}, 1, time.Second, time.Second}, // never longer
		{Floor{Share: 0.1}, 1, 10 * time.Second, time.Second},
		{Floor{}, 1, 10 * time.Second, 1}, // 0 would be no limit at all
		{Floor{}, 1, 0, 0},
	} {
		timeout := Timeout{floor: test.floor}
		timeout.set(test.pressure)
		if got := timeout.Scale(test.d); got != test.want {
			t.Errorf("%v at %v: %v becomes %v, want %v", test.floor, test.pressure, test.d, got, test.want)
		}
	}
}

// A hand is a monitor and a plane.
type hand struct {
	mu sync.Mutex // the manager asks from its own goroutine
	seen
}

type seen struct {
	pressure float64
	err      error
	accepts  bool
	rescaled int
	least    int
	enough   int64
	most     int64
}

func (h *hand) do(f func(*seen)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.seen)
}

func (h *hand) now() seen {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen
}

func (h *hand) Pressure() (float64, error) { s := h.now(); return s.pressure, s.err }
func (h *hand) Accept(on bool)             { h.do(func(s *seen) { s.accepts = on }) }
func (h *hand) Rescale()                   { h.do(func(s *seen) { s.rescaled++ }) }
func (h *hand) Reset(least int, enough int64) int {
	h.do(func(s *seen) { s.least, s.enough = least, enough })
	return 2
}
func (h *hand) Shrink(most int64) bool { h.do(func(s *seen) { s.most = most }); return true }

// What a manager has done follows its monitors, and what it cannot read leaves all as it is.
func TestManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hand, state := &hand{seen: seen{accepts: true}}, &State{}
		pass := func(d time.Duration) seen {
			time.Sleep(d)
			synctest.Wait()
			return hand.now()
		}
		at := []Trigger{{Resource: "hand", From: 0.5, To: 1}}
		m := New(Config{Every: 100 * time.Millisecond, Account: 10, Monitors: []Named{{"hand", hand}}, Actions: []Action{
			{Name: "a", Kind: StopRequests, Triggers: at}, {Name: "b", Kind: StopAccepting, Triggers: at},
			{Name: "c", Kind: ReduceTimeouts, Triggers: at, Timers: map[Timer]Floor{StreamIdle: {Time: time.Second}}},
			{Name: "d", Kind: ResetStreams, Triggers: at}, {Name: "e", Kind: ShrinkHeap, Triggers: at, ShrinkEvery: 10 * time.Second, ShrinkAbove: 5},
			{Name: "f", Kind: DisableKeepAlive, Triggers: at}, {Name: "g", Kind: RejectConnections, Triggers: at},
		}, Points: []ShedPoint{{DecodeHeaders, at}}}, state, hand, stats.NewRegistry(false), slog.New(slog.DiscardHandler))
		go m.Run(t.Context())
		h := pass(time.Second)
		if state.Requests.Hit(dice{}) || h.rescaled > 0 || h.least > 0 || !h.accepts {
			t.Error("something is done without pressure")
		}
		hand.do(func(s *seen) { s.pressure = 0.75 })
		h = pass(time.Second)
		if !h.accepts || state.Timeouts[StreamIdle].Scale(5*time.Second) != 3*time.Second || h.least != 1<<13 {
			t.Errorf("half of the pressure: accepts %v, streams of %d go, 5 s are %v", h.accepts, h.least, state.Timeouts[StreamIdle].Scale(5*time.Second))
		}
		hand.do(func(s *seen) { s.pressure = 1 })
		h = pass(11 * time.Second)
		if h.accepts || !state.Requests.Hit(dice{}) || !state.KeepAlive.Hit(dice{}) || !state.Connections.Hit(dice{}) || !state.Points[DecodeHeaders].Hit(dice{}) || h.least != 1<<10 || h.most != 5 || h.rescaled != 2 {
			t.Errorf("full pressure: %+v", h)
		}
		if !state.Points[DecodeHeaders].Watched() || state.Points[TCPData].Watched() {
			t.Error("the wrong points are watched")
		}
		hand.do(func(s *seen) { s.err, s.pressure = errors.New("no idea"), 0 })
		h = pass(time.Second)
		if h.accepts {
			t.Error("what cannot be read has ended the action")
		}
		hand.do(func(s *seen) { s.err = nil })
		h = pass(time.Second)
		if !h.accepts || state.Requests.Hit(dice{}) || state.Timeouts[StreamIdle].Scale(time.Minute) != time.Minute {
			t.Error("something is left when the pressure has gone")
		}
	})
}

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Both versions of control groups tell what is used and what may be.
func TestCgroup(t *testing.T) {
	for _, test := range []struct {
		files map[string]string
		max   uint64
		want  float64
	}{
		{map[string]string{"memory.current": "50\n", "memory.max": "200\n"}, 0, 0.25},
		{map[string]string{"memory.current": "50\n", "memory.max": "200\n"}, 100, 0.5},
		{map[string]string{"memory.current": "50\n", "memory.max": "max\n"}, 100, 0.5},
		{map[string]string{"memory/memory.usage_in_bytes": "30\n", "memory/memory.limit_in_bytes": "100\n"}, 0, 0.3},
	} {
		c := Cgroup{Root: t.TempDir(), Max: test.max}
		if c.Available() == nil {
			t.Error("an empty directory is a control group")
		}
		write(t, c.Root, test.files)
		if got, err := c.Pressure(); got != test.want || err != nil {
			t.Errorf("%v: %v, %v, want %v", test.files, got, err, test.want)
		}
	}
	c := Cgroup{Root: t.TempDir()}
	write(t, c.Root, map[string]string{"memory.current": "many", "memory.max": "200"})
	if _, err := c.Pressure(); err == nil {
		t.Error("a word is taken for a number")
	}
}

// The limit of a process is the least of its control group's and of those above.
func TestLimit(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{
		"memory.max": "max", "a/memory.max": "500", "a/b/memory.max": "max",
		"memory/memory.limit_in_bytes": "9223372036854771712", "memory/x/memory.limit_in_bytes": "300",
	})
	for _, test := range []struct {
		groups string
		want   uint64
		ok     bool
	}{
		{"0::/a/b\n", 500, true}, {"0::/\n", 0, false}, {"0::/elsewhere\n", 0, false},
		{"4:cpu,memory:/x/y\n0::/\n", 300, true}, {"4:memory:/\n", 0, false}, {"", 0, false}, {"nonsense", 0, false}, {"0::/../../a\n", 500, true},
	} {
		got, ok := Limit(root, test.groups)
		if ok != test.ok || ok && got != test.want {
			t.Errorf("%q: %d, %v, want %d, %v", test.groups, got, ok, test.want, test.ok)
		}
	}
}

// Processors are as busy as they have been lately: a moment does not count for much.
func TestCPU(t *testing.T) {
	now := time.Duration(0)
	host := &CPU{Stat: filepath.Join(t.TempDir(), "stat")}
	group := &CPU{Container: true, Root: t.TempDir(), Clock: func() time.Duration { return now }}
	look := func(stat, usage string) (float64, float64) {
		t.Helper()
		write(t, filepath.Dir(host.Stat), map[string]string{"stat": stat})
		write(t, group.Root, map[string]string{"cpu.stat": "nr_periods 0\nusage_usec " + usage + "\n", "cpu.max": "200000 100000\n"})
		a, err1 := host.Pressure()
		b, err2 := group.Pressure()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		return a, b
	}
	look("cpu  100 0 100 200 9 9\ncpu0 1 1 1 1\n", "1000000")
	now = time.Second
	a, b := look("cpu  150 10 140 300 9 9\n", "2000000")
	if want := damping * 0.5; a != want || b != want {
		t.Errorf("half of the time: %v and %v, want %v", a, b, want)
	}
	if _, err := host.Pressure(); err == nil {
		t.Error("nothing has passed, and that is no error")
	}
	for _, bad := range []string{"", "cpu", "cpu a b c d\n", "intr 1 2 3 4 5\n"} {
		write(t, filepath.Dir(host.Stat), map[string]string{"stat": bad})
		if _, err := host.Pressure(); err == nil {
			t.Errorf("%q is taken for times", bad)
		}
	}
}

func TestInjected(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]float64{"0.5\n": 0.5, "0": 0, "1": 1, "1.1": -1, "-0.1": -1, "NaN": -1, "": -1} {
		write(t, dir, map[string]string{"p": text})
		got, err := Injected{filepath.Join(dir, "p")}.Pressure()
		if (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

// What is allocated counts, and what was given back does not.
func TestHeap(t *testing.T) {
	m := &Manager{
		config:  Config{Monitors: []Named{{"heap", Heap{Max: 1000}}, {"file", Injected{}}}},
		resetBy: []Trigger{{Resource: "heap", From: 0.5, To: 1}, {Resource: "file", From: 0.5, To: 0.5}},
	}
	for _, test := range []struct {
		heap, file float64
		want       int64
	}{
		{0.75, 0, 350}, // as much as it is above what the trigger lets be, and a tenth
		{1.25, 0, 850},
		{0.75, 0.5, math.MaxInt64}, // what a file says has no bytes
		{0.25, 0.4, 0},
	} {
		m.pressure = map[string]float64{"heap": test.heap, "file": test.file}
		if got := m.excess(); got != test.want {
			t.Errorf("memory at %v and the file at %v: %d bytes are too many, want %d", test.heap, test.file, got, test.want)
		}
	}

	h := Heap{Max: 1 << 30}
	debug.FreeOSMemory() // no block of before is taken again
	before, _ := h.Pressure()
	block := make([]byte, 100<<20)
	for i := range block {
		block[i] = 1
	}
	after, _ := h.Pressure()
	if grown := after - before; grown < 0.09 || grown > 0.15 || len(block) == 0 {
		t.Errorf("100 MB are %v of a GB", grown)
	}
}
