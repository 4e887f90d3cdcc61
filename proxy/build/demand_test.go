package build

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func newDemand() (*demand, *int) {
	woken := new(int)
	return &demand{wishes: map[string]*wish{}, wake: func() { *woken++ }}, woken
}

func all(string) bool { return true }

// Everybody who waits for a host is told once, and the control plane is asked once.
func TestDemandAnswers(t *testing.T) {
	d, woken := newDemand()
	var told []bool
	note := func(found bool) { told = append(told, found) }
	d.Ask("table", "a.example", note)
	d.Ask("table", "a.example", note)
	names, fresh := d.names(all)
	if *woken != 1 || len(names) != 1 || len(fresh) != 1 || len(told) != 0 {
		t.Fatalf("woken %d times, names %v, of them new %v, told %v", *woken, names, fresh, told)
	}
	if names, fresh = d.names(all); len(names) != 1 || len(fresh) != 0 {
		t.Errorf("names %v, of them new %v, want one that is not", names, fresh)
	}
	d.settle(func(_, host string) bool { return host == "a.example" }, func(string) bool { return false })
	d.Ask("table", "a.example", note) // a request that began with the table of before
	if fmt.Sprint(told) != "[true true true]" {
		t.Errorf("told %v, want true three times", told)
	}
	// The virtual host has gone again.
	d.settle(func(string, string) bool { return false }, func(string) bool { return false })
	d.Ask("table", "a.example", note)
	if told[3] {
		t.Error("a host that has gone is still there")
	}
}

// A request does not wait for ever for a control plane that says nothing.
func TestDemandPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := newDemand()
		told := make(chan bool, 1)
		began := time.Now()
		d.Ask("table", "a.example", func(found bool) { told <- found })
		if found := <-told; found || time.Since(began) != wishPatience {
			t.Errorf("found %v after %v, want false after %v", found, time.Since(began), wishPatience)
		}
	})
}

// Names that clients invent do not fill the memory, and push out no host that is there.
func TestDemandBounded(t *testing.T) {
	// In a bubble, for a slow machine must not let the patience of a wish end meanwhile.
	synctest.Test(t, func(t *testing.T) {
		d, _ := newDemand()
		d.Ask("table", "good.example", func(bool) {})
		has := func(_, host string) bool { return host == "good.example" }
		refused := 0
		for i := range 3 * maxWishes {
			d.Ask("table", fmt.Sprintf("x%d.example", i), func(bool) { refused++ })
			if i%100 == 0 {
				d.settle(has, all)
			}
		}
		d.settle(has, all)
		if names, _ := d.names(all); len(names) > maxWishes {
			t.Errorf("%d names are asked for, want at most %d", len(names), maxWishes)
		}
		if w := d.wishes[vhostName("table", "good.example")]; w == nil || w.answer != present {
			t.Error("a host that is there was forgotten")
		}
		if refused != 3*maxWishes {
			t.Errorf("%d of %d requests got their answer", refused, 3*maxWishes)
		}
	})
}

// A patience that ends just as the answer comes does not take the answer back.
func TestDemandLatePatience(t *testing.T) {
	d, _ := newDemand()
	d.Ask("table", "a.example", func(bool) {})
	d.settle(func(string, string) bool { return true }, all)
	d.expire(vhostName("table", "a.example"))
	found := false
	d.Ask("table", "a.example", func(yes bool) { found = yes })
	if !found {
		t.Error("the host that is there was taken for absent")
	}
}

// Names of tables may have slashes; hosts have none.
func TestTableOf(t *testing.T) {
	for name, want := range map[string]string{"a/b.example": "a", "a/b/c.example:80": "a/b", "a": ""} {
		if got := tableOf(name); got != want {
			t.Errorf("tableOf(%q) = %q, want %q", name, got, want)
		}
	}
}
