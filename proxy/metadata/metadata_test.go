package metadata

import (
	"reflect"
	"testing"
)

// What filters say of one request reaches neither the configuration that they took it from nor the next request.
func TestValuesAreNotShared(t *testing.T) {
	configured := Struct{"a": "configured"}
	var d Dynamic
	d.Put("ns", configured)
	d.Set("ns", "b", 1.0)
	if len(configured) != 1 {
		t.Errorf("a request has changed its configuration: %v", configured)
	}
	if got, _ := d.Space("ns"); !reflect.DeepEqual(got, Struct{"a": "configured", "b": 1.0}) {
		t.Errorf("the request has %v", got)
	}
	d.Merge("ns", Struct{"a": "later"})
	d.Merge("other", configured)
	d.Merge("other", Struct{"c": true})
	if got, _ := d.Space("ns"); got["a"] != "later" || got["b"] != 1.0 {
		t.Errorf("after a merge the request has %v", got)
	}
	if len(configured) != 1 {
		t.Errorf("a merge has changed a configuration: %v", configured)
	}
	d.Reset()
	if got, ok := d.Space("ns"); ok {
		t.Errorf("the next request has %v", got)
	}
}

func TestLookup(t *testing.T) {
	fields := Struct{"a": Struct{"b": "x", "null": nil}, "list": []any{"y"}}
	for _, test := range []struct {
		path []string
		want any
		ok   bool
	}{
		{nil, fields, true},
		{[]string{"a", "b"}, "x", true},
		{[]string{"a", "null"}, nil, true},
		{[]string{"a", "null", "c"}, nil, false},
		{[]string{"a", "b", "c"}, nil, false}, // a text holds nothing
		{[]string{"list", "0"}, nil, false},   // nor does a list, by name
		{[]string{"none"}, nil, false},
	} {
		if got, ok := Lookup(fields, test.path); ok != test.ok || !reflect.DeepEqual(got, test.want) {
			t.Errorf("Lookup(%q) = %v, %v, want %v, %v", test.path, got, ok, test.want, test.ok)
		}
	}
	if _, ok := Lookup(nil, nil); ok {
		t.Error("what is not there has been found")
	}
}

func TestUpdated(t *testing.T) {
	old := Struct{"text": "a", "list": []any{1.0}, "inner": Struct{"x": 1.0, "y": 2.0}, "kind": 1.0}
	with := Struct{"text": "b", "list": []any{2.0}, "inner": Struct{"x": 3.0}, "kind": Struct{"z": true}, "more": nil}
	want := Struct{"text": "b", "list": []any{1.0, 2.0}, "inner": Struct{"x": 3.0, "y": 2.0}, "kind": Struct{"z": true}, "more": nil}
	if got := Updated(old, with); !reflect.DeepEqual(got, want) {
		t.Errorf("Updated: %v, want %v", got, want)
	}
	if old["text"] != "a" || len(old["list"].([]any)) != 1 || old["inner"].(Struct)["x"] != 1.0 {
		t.Errorf("an update has changed what it was made from: %v", old)
	}
}

// A request that nothing is said about costs nothing.
func TestNothingCostsNothing(t *testing.T) {
	var d Dynamic
	if n := testing.AllocsPerRun(100, func() {
		d.Reset()
		d.Space(LB)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// A message of a namespace and what values say in it do not know of each other, and both go with the request.
func TestMessagesStandBeside(t *testing.T) {
	var d, later Dynamic
	one, two := &Message{Type: "one"}, &Message{Type: "two"}
	d.PutMessage("ns", one)
	if _, ok := d.Space("ns"); ok || len(d.Spaces()) > 0 || len(d.All()) > 0 {
		t.Error("a message is a value")
	}
	d.Set("ns", "a", 1.0)
	d.PutMessage("ns", two)
	d.Put("other", Struct{"b": true})
	if got, _ := d.Space("ns"); d.Message("ns") != two || got["a"] != 1.0 {
		t.Errorf("the namespace has %v and %v", d.Message("ns"), got)
	}
	if d.Message("other") != nil || d.Message("none") != nil {
		t.Error("there is a message that nobody has put there")
	}
	later.Inherit(&d)
	if got := later.Messages(); len(got) != 1 || got["ns"] != two {
		t.Errorf("who inherits has %v", got)
	}
	if d.Reset(); d.Message("ns") != nil || d.Messages() != nil {
		t.Error("the next request has a message")
	}
}
