package app

import (
	"slices"
	"testing"

	"github.com/mallamesh/malla/control/xds"
)

// One response holds many resources, and only those that are wrong are told of.
func TestWhatOfARefusedResponseIsAtFault(t *testing.T) {
	names := []string{"a", "b", "0.0.0.0_8443"}
	for _, test := range []struct {
		who   string
		nack  xds.Nack
		blame []blame
	}{
		{"malla's proxy gives each its reason", xds.Nack{Names: names, Detail: "b: no key\nno cert\n0.0.0.0_8443: no chain"}, []blame{{"b", "no key\nno cert\n"}, {"0.0.0.0_8443", "no chain"}}},
		{"an Envoy makes one sentence", xds.Nack{Names: names[2:], Detail: "Error adding/updating listener(s) 0.0.0.0_8443: no chain"}, []blame{{"0.0.0.0_8443", "Error adding/updating listener(s) 0.0.0.0_8443: no chain"}}},
		{"who names none of one means it", xds.Nack{Names: names[:1], Detail: "invalid path"}, []blame{{"a", "invalid path"}}},
		{"who names none of many blames nobody", xds.Nack{Names: names[1:], Detail: "it is wet"}, nil},
	} {
		if got := blamed(test.nack); !slices.Equal(got, test.blame) {
			t.Errorf("%s: %q, want %q", test.who, got, test.blame)
		}
	}
}
