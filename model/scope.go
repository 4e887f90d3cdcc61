package model

import (
	"net/netip"
	"time"
)

// A Scope (Istio's kind Sidecar) says what some proxies see of the mesh, and what they serve. Only
// one holds for a proxy; see [View.Scope].
type Scope struct {
	From     Ref
	Created  time.Time
	Selector map[string]string // empty: all of the namespace
	Imports  []Import          // nil: everything
	Outbound *OutboundMode     // nil: the mesh's
	Egress   *Destination      // where traffic for hosts goes that nobody declared; nil: where it wanted
	Doors    []Door            // ports on which some of the hosts are reached
	Open     []Import          // what is reached on its own ports, if there are doors
	Pool     *ConnectionPool
	Ingress  []Ingress // none: the ports of the workload's services
}

// An Import brings hosts of a namespace into sight, or keeps them out.
type Import struct {
	Namespace string // "*" is all
	Host      string // a full name, "*.x" or "*"
	Not       bool
}

// A Door is a port, or a Unix socket, on which the application reaches some hosts.
type Door struct {
	Port    Port
	Bind    netip.Addr // zero: any address
	Path    string     // of a Unix socket, in place of address and port
	Own     bool       // the proxy listens there itself; else what is captured for the port comes to it
	Unsaid  bool       // which of the two: Own is true where nothing is captured
	Local   bool       // no address was said: it is on this host only, if the proxy listens there itself
	Imports []Import
}

// An Ingress is a port that the workload serves.
type Ingress struct {
	Port Port
	Bind netip.Addr // zero: the pod's addresses
	Own  bool       // the proxy listens there itself; else what is captured for the port comes to it
	// Unsaid is which of the two: Own is true where nothing is captured.
	Unsaid bool
	TLS    *ServerTLS // that of clients outside of the mesh, where the port speaks no mutual TLS of the mesh
	Pool   *ConnectionPool
	// Where the application is: its address, a Unix socket, or its own pod's address on
	// a port. All zero means where the client dialled.
	Addr netip.Addr
	Path string
	To   uint16
}

// imports reports whether the host of that namespace is in sight. Wide is for rules: a
// wildcard of theirs is in sight with any host that it stands for.
func (s *Scope) imports(namespace, host string, wide bool) bool {
	return s == nil || s.Imports == nil || Imports(s.Imports, namespace, host, wide)
}

// OpensTo reports whether the host of that namespace is reached on its own ports, and not behind doors only.
func (s *Scope) OpensTo(namespace, host string, wide bool) bool {
	return s == nil || len(s.Doors) == 0 || Imports(s.Open, namespace, host, wide)
}

// Imports reports whether the list brings the host of that namespace into sight. Wide is for rules: a wildcard
// of theirs is in sight with any host that it stands for.
func Imports(list []Import, namespace, host string, wide bool) bool {
	found := false
	for _, i := range list {
		if i.Namespace != "*" && i.Namespace != namespace {
			continue
		}
		switch {
		case i.Not && HostMatches(i.Host, host):
			return false
		case !i.Not && (HostMatches(i.Host, host) || wide && HostMatches(host, i.Host)):
			found = true
		}
	}
	return found
}

// Scope returns what holds for the proxy, nil if nobody said anything: the
// oldest that selects it, else the oldest of its namespace without a selector,
// else that of the root namespace. Gateways have none.
func (v *View) Scope() *Scope {
	if v.Proxy.Type == Router || len(v.Mesh.Scopes) == 0 {
		return nil
	}
	type key struct{}
	return v.Memo(key{}, func() any {
		var all, root *Scope
		for _, s := range v.Mesh.Scopes { // oldest first
			switch ns := s.From.Namespace; {
			case len(s.Selector) > 0:
				if ns == v.Proxy.Namespace && Labels(v.Proxy.Labels).Matches(s.Selector) {
					return s
				}
			case ns == v.Proxy.Namespace && all == nil:
				all = s
			case ns == v.Mesh.Config.RootNamespace && root == nil:
				root = s
			}
		}
		if all == nil {
			all = root
		}
		return all
	}).(*Scope)
}

// Outbound says what happens to traffic for hosts that the proxy does not see.
func (v *View) Outbound() OutboundMode {
	if s := v.Scope(); s != nil && s.Outbound != nil {
		return *s.Outbound
	}
	return v.Mesh.Config.Outbound
}

// destined are the hosts to which the rules that the proxy sees send: what a
// sidecar imports the rules of, it imports too. Nil without a sidecar that hides anything.
func (v *View) destined() map[string]bool {
	if s := v.Scope(); s == nil || s.Imports == nil {
		return nil
	}
	type key struct{}
	return v.Memo(key{}, func() any {
		out := make(map[string]bool)
		splits := func(list []Split) {
			for _, s := range list {
				out[s.To.Host] = true
			}
		}
		if e := v.Scope().Egress; e != nil {
			out[e.Host] = true
		}
		for _, r := range v.Rules() {
			if !r.Applies("mesh") {
				continue
			}
			for _, h := range r.HTTP {
				splits(h.Forward)
				for _, m := range h.Mirrors {
					out[m.To.Host] = true
				}
			}
			for _, t := range r.TLS {
				splits(t.Forward)
			}
			for _, t := range r.TCP {
				splits(t.Forward)
			}
		}
		return out
	}).(map[string]bool)
}
