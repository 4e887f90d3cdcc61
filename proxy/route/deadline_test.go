package route

import (
	"testing"
	"time"
)

// No caller gets more time than its route allows, however much it asks for.
func TestGRPCTimeout(t *testing.T) {
	most := 5 * time.Second
	l := &MaxStream{GRPCTimeoutMax: &most}
	for _, test := range []struct {
		asked string
		want  time.Duration
		ok    bool
	}{
		{"1S", time.Second, true},
		{"300m", 300 * time.Millisecond, true},
		{"99999999M", most, true},
		{"2562048H", most, true}, // hours that do not fit into a Duration
		{"99999999H", most, true},
		{"", most, false},
		{"123456789m", most, false}, // too many digits
	} {
		if got, ok := l.GRPC([]byte(test.asked)); got != test.want || ok != test.ok {
			t.Errorf("%q asks for %v, %v, want %v, %v", test.asked, got, ok, test.want, test.ok)
		}
	}
}

func TestAppendGRPCTimeout(t *testing.T) {
	for _, test := range []struct {
		d    time.Duration
		want string
	}{
		{time.Millisecond, "1m"},
		{99_999_999 * time.Millisecond, "99999999m"},
		{100_000 * time.Second, "100000S"},
		{100_000_000 * time.Second, "1666666M"},
		{1 << 20 * time.Hour, "62914560M"},
	} {
		if got := string(AppendGRPCTimeout(nil, test.d)); got != test.want {
			t.Errorf("%v is written as %s, want %s", test.d, got, test.want)
		}
	}
}
