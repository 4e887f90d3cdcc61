package stats

import (
	"errors"
	"strconv"
	"strings"
	"testing"
)

// What scripts name is bounded: by number, by length, and by what a line of text or a series can be.
func TestMade(t *testing.T) {
	r := NewRegistry(false)
	set, _ := r.Lua("main", "")
	m := &set.Own
	for _, test := range []struct {
		name string
		want error
	}{
		{"calls", nil}, {"a b/c:d", nil}, {"größe", nil}, {"calls.", nil}, {strings.Repeat("x", 200), nil},
		{"", ErrMadeName}, {".", ErrMadeName}, {strings.Repeat("x", 201), ErrMadeName}, {"a\nb", ErrMadeName}, {"a\x00", ErrMadeName}, {"a\u2028b", ErrMadeName},
	} {
		if _, err := m.Counter(test.name); !errors.Is(err, test.want) {
			t.Errorf("counter %q: %v, want %v", test.name, err, test.want)
		}
	}
	if _, err := m.Gauge("calls"); !errors.Is(err, ErrMadeKind) {
		t.Errorf("a gauge of a counter's name: %v", err)
	}
	if _, err := m.Histogram("calls"); !errors.Is(err, ErrMadeKind) {
		t.Errorf("a histogram of a counter's name: %v", err)
	}
	for i := range 2 * maxMade {
		_, _ = m.Counter("n" + strconv.Itoa(i))
	}
	if n := len(m.all()); n != maxMade {
		t.Errorf("there are %d, want %d", n, maxMade)
	}
	if c, err := m.Counter("calls"); err != nil || func() bool { c.Add(3); return c.Value() != 3 }() {
		t.Errorf("one that is there already: %v", err)
	}
	if _, err := m.Counter("one more"); !errors.Is(err, ErrMadeFull) {
		t.Errorf("one too many: %v", err)
	}
	if r.ResetCounters(); func() uint64 { c, _ := m.Counter("calls"); return c.Value() }() != 0 {
		t.Error("a reset counter still counts")
	}
}

// Two names that Prometheus cannot tell apart are one series: a scrape with one twice is refused whole.
func TestMadeAlike(t *testing.T) {
	r := NewRegistry(false)
	set, _ := r.Lua("main", "mine")
	for i, name := range []string{"a.b", "a/b", "a b"} {
		c, err := set.Own.Counter(name)
		if err != nil {
			t.Fatal(err)
		}
		c.Add(uint64(i) + 1)
	}
	var b strings.Builder
	if err := r.WritePrometheus(&b, Options{}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(b.String(), "envoy_http_lua_mine_a_b{"); got != 1 {
		t.Errorf("%d series:\n%s", got, b.String())
	}
}

func TestMadeAllocs(t *testing.T) {
	var m Made
	if _, err := m.Counter("calls"); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		c, _ := m.Counter("calls")
		c.Inc()
	}); n != 0 {
		t.Errorf("counting allocates %v times, want 0", n)
	}
}
