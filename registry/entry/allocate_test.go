package entry

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/mallamesh/malla/model"
)

func named(host string) *model.Service { return &model.Service{Host: host, Namespace: "prod"} }

// No two services have one address, and who comes later takes it from nobody.
func TestAllocate(t *testing.T) {
	var all []*model.Service
	for i := range 2000 { // enough for many to want the same
		all = append(all, named(fmt.Sprintf("h%d.test", i)))
	}
	before := append([]*model.Service(nil), all[:1000]...)
	allocate(before, nil)
	allocate(all, nil)
	owner := map[netip.Addr]string{}
	for i, s := range all {
		if i < 1000 && s.Auto[0] != before[i].Auto[0] {
			t.Fatalf("%s moved from %s to %s", s.Host, before[i].Auto[0], s.Auto[0])
		}
		for _, a := range s.Auto {
			if other, ok := owner[a]; ok {
				t.Fatalf("%s and %s are both %s", other, s.Host, a)
			}
			owner[a] = s.Host
			if !netip.MustParsePrefix("240.240.0.0/16").Contains(a) && !netip.MustParsePrefix("2001:2::/48").Contains(a) {
				t.Fatalf("%s is %s", s.Host, a)
			}
		}
	}
}

// What did not change is the same value.
func TestAllocateKeeps(t *testing.T) {
	a, b := named("a.test"), named("b.test")
	one := []*model.Service{a}
	made := allocate(one, nil)
	two := []*model.Service{b, a}
	allocate(two, made)
	if two[1] != one[0] {
		t.Error("a service that keeps its address is another value")
	}
}
