package xdsclient

import (
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// Virtual hosts come without having been asked for, and an answer without a resource says that
// there is none by its names.
func TestUnasked(t *testing.T) {
	m := NewMachine(&corev3.Node{Id: "me"})
	m.Opened()
	if r := m.Want(VirtualHostType, Interest{Unasked: true}); r != nil {
		t.Errorf("asks %s, want nothing: a first request without names would ask for all", show(r))
	}
	u, err := m.Receive(respond(VirtualHostType, "1", "t/a@1"))
	if err != nil || names(u) != "t/a@1" {
		t.Errorf("took %q, %v, want what nobody asked for", names(u), err)
	}
	if r := m.Want(VirtualHostType, Interest{Unasked: true, Names: []string{"t/b"}}); show(r) != "VirtualHost node=me +t/b" {
		t.Errorf("asks %s", show(r))
	}
	none := &Response{TypeUrl: VirtualHostType, Resources: []*discovery.Resource{{Name: "t/b", Aliases: []string{"t/c"}}}}
	if u, err = m.Receive(none); err != nil || !slices.Equal(u.Removed, []string{"t/b", "t/c"}) {
		t.Errorf("removed %q, %v, want both names", u.Removed, err)
	}
}
