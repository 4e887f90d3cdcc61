package nds

import (
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func example() *Table {
	a := netip.MustParseAddr
	return &Table{
		Names: map[string]Name{
			"db.test":  {Addrs: []netip.Addr{a("240.240.0.1"), a("2001:2::f0f0:1")}, Registry: "External", Namespace: "prod"},
			"*.b.test": {Addrs: []netip.Addr{a("10.0.0.1"), a("10.0.0.2"), a("10.0.0.3")}, Tiers: []int{1, 2}},
		},
		Rules: []Rule{{From: "prod/deny", Hosts: []string{"*.bad.test"}, Rcode: 3, Percent: 100}, {Hosts: []string{"*"}, Delay: 1500 * time.Millisecond, Percent: 12.5, Log: true}},
	}
}

func TestRoundTrip(t *testing.T) {
	got, err := Parse(example().Append(nil))
	if err != nil || !reflect.DeepEqual(got, example()) {
		t.Errorf("got %+v, %v, want %+v", got, err, example())
	}
	if one, two := example(), example(); string(one.Append(nil)) != string(two.Append(nil)) {
		t.Error("equal tables are equal bytes")
	}
}

// FuzzParse: whatever comes is refused, or is what is written back.
func FuzzParse(f *testing.F) {
	f.Add(example().Append(nil))
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		one, err := Parse(b)
		if err != nil {
			return
		}
		two, err := Parse(one.Append(nil))
		if err != nil {
			t.Fatalf("what was read is refused: %v", err)
		}
		if !reflect.DeepEqual(one.Append(nil), two.Append(nil)) {
			t.Fatalf("read %+v, then %+v", one, two)
		}
	})
}
