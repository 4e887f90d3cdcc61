package xdsclient

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
)

// Interest is what is wanted of one type. Names may be asked for beside the
// wildcard: then the server answers for them even if there is no such resource.
type Interest struct {
	Wildcard bool
	Names    []string
	// Unasked takes in what the server sends without having been asked for it: virtual hosts
	// of a route table come like that.
	Unasked bool
}

func (i Interest) empty() bool { return !i.Wildcard && len(i.Names) == 0 && !i.Unasked }

// A Resource is one resource as it came.
type Resource struct {
	Name    string
	Version string
	Body    *anypb.Any
	Aliases []string // other names that it was asked for by
}

// An Update is one response: what is new or changed, and what is gone or never was.
type Update struct {
	Type      string
	Place     Place  // the file that it comes from; none: the control plane
	Version   string // of the server's whole configuration, if it says so (system_version_info)
	Resources []Resource
	Removed   []string
}

// A Refusal says why a resource does not count.
type Refusal struct {
	Name string
	Err  error
}

// Request and Response are what goes over the stream.
type (
	Request  = discovery.DeltaDiscoveryRequest
	Response = discovery.DeltaDiscoveryResponse
)

// maxDetail bounds the text of a NACK: gRPC servers limit what they take in.
const maxDetail = 16 << 10

// A Machine is the client's side of the protocol across streams. The zero value
// is not ready; use [NewMachine].
type Machine struct {
	node *corev3.Node
	subs map[string]*subscription

	open  bool // there is a stream
	named bool // this stream has been told the node
}

// A subscription is the state of one type.
type subscription struct {
	wildcard bool
	unasked  bool
	names    map[string]bool
	versions map[string]string // of resources that were accepted and are still there
	started  bool              // on this stream
}

// NewMachine returns the machine of a node that wants nothing yet.
func NewMachine(node *corev3.Node) *Machine {
	return &Machine{node: node, subs: map[string]*subscription{}}
}

// Want sets what is wanted of a type, and returns the request to send, nil if
// there is nothing to say or no stream to say it on.
func (m *Machine) Want(typeURL string, want Interest) *Request {
	s := m.subs[typeURL]
	if s == nil {
		if want.empty() {
			return nil
		}
		s = &subscription{names: map[string]bool{}, versions: map[string]string{}}
		m.subs[typeURL] = s
	}
	var more, less []string
	names := make(map[string]bool, len(want.Names))
	for _, n := range want.Names {
		if names[n] = true; !s.names[n] {
			more = append(more, n)
		}
	}
	for n := range s.names {
		if !names[n] {
			less = append(less, n)
		}
	}
	if want.Wildcard != s.wildcard {
		if want.Wildcard {
			more = append(more, "*")
		} else {
			less = append(less, "*")
		}
	}
	s.names, s.wildcard, s.unasked = names, want.Wildcard, want.Unasked
	for n := range s.versions {
		if !s.wanted(n) {
			delete(s.versions, n)
		}
	}
	switch {
	case !m.open:
		return nil
	case !s.started:
		return m.begin(typeURL, s)
	case len(more) == 0 && len(less) == 0:
		return nil
	}
	slices.Sort(more)
	slices.Sort(less)
	return m.request(&Request{TypeUrl: typeURL, ResourceNamesSubscribe: more, ResourceNamesUnsubscribe: less})
}

// Opened begins a new stream and returns the first requests on it, which name
// the versions that are here already.
func (m *Machine) Opened() []*Request {
	m.open, m.named = true, false
	var out []*Request
	for _, typeURL := range order(m.subs) {
		s := m.subs[typeURL]
		s.started = false
		if r := m.begin(typeURL, s); r != nil {
			out = append(out, r)
		}
	}
	return out
}

// Closed notes that the stream has ended. What was accepted stays.
func (m *Machine) Closed() { m.open = false }

// begin makes the first request for a type on a stream.
func (m *Machine) begin(typeURL string, s *subscription) *Request {
	if !s.wildcard && len(s.names) == 0 {
		return nil
	}
	s.started = true
	r := &Request{TypeUrl: typeURL, ResourceNamesSubscribe: slices.Sorted(maps.Keys(s.names))}
	// A first request without names is a wildcard for clusters, listeners and scopes, for old servers too;
	// anything else has to be spelled out (xDS protocol, "How the client specifies what resources to return").
	if s.wildcard && (len(s.names) > 0 || !full(typeURL)) {
		r.ResourceNamesSubscribe = append([]string{"*"}, r.ResourceNamesSubscribe...)
	}
	if len(s.versions) > 0 {
		r.InitialResourceVersions = maps.Clone(s.versions)
	}
	return m.request(r)
}

// request completes a request; the first of a stream carries the node.
func (m *Machine) request(r *Request) *Request {
	if !m.named {
		m.named = true
		r.Node = m.node
	}
	return r
}

// Receive turns a response into what a consumer is to judge. Resources that are
// no longer wanted are left out: the server has not seen the unsubscription yet.
func (m *Machine) Receive(r *Response) (Update, error) {
	s := m.subs[r.GetTypeUrl()]
	if s == nil || !s.started && !s.unasked {
		return Update{}, fmt.Errorf("xds: server sent type %q, which nobody asked for", r.GetTypeUrl())
	}
	u := Update{Type: r.GetTypeUrl(), Version: r.GetSystemVersionInfo()}
	for _, res := range r.GetResources() {
		switch {
		case !s.wanted(res.GetName()):
		case res.GetResource() != nil:
			u.Resources = append(u.Resources, Resource{Name: res.GetName(), Version: res.GetVersion(), Body: res.GetResource(), Aliases: res.GetAliases()})
		case s.unasked: // "there is nothing by these names" (xDS protocol, "Aliases")
			u.Removed = append(append(u.Removed, res.GetName()), res.GetAliases()...)
		}
	}
	for _, name := range r.GetRemovedResources() {
		if s.wanted(name) {
			u.Removed = append(u.Removed, name)
		}
	}
	return u, nil
}

func (s *subscription) wanted(name string) bool { return s.wildcard || s.unasked || s.names[name] }

// Answer returns the ACK of a response, or its NACK if something was refused,
// and notes what counts from now on.
func (m *Machine) Answer(r *Response, u Update, refused []Refusal) *Request {
	s := m.subs[u.Type]
	bad := make(map[string]bool, len(refused))
	for _, f := range refused {
		bad[f.Name] = true
	}
	for _, res := range u.Resources {
		if !bad[res.Name] && s.wanted(res.Name) {
			s.versions[res.Name] = res.Version
		}
	}
	for _, name := range u.Removed {
		delete(s.versions, name)
	}
	out := &Request{TypeUrl: u.Type, ResponseNonce: r.GetNonce()}
	if len(refused) > 0 {
		out.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: detail(refused)}
	}
	return m.request(out)
}

// detail is one line for each reason.
func detail(refused []Refusal) string {
	var b strings.Builder
	for i, f := range refused {
		line := f.Name + ": " + f.Err.Error()
		if b.Len()+len(line) > maxDetail {
			fmt.Fprintf(&b, "\nand %d more", len(refused)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return strings.ToValidUTF8(b.String(), "?") // protobuf strings must be
}

// Versions returns what was accepted of a type, by name.
func (m *Machine) Versions(typeURL string) map[string]string {
	if s := m.subs[typeURL]; s != nil {
		return maps.Clone(s.versions)
	}
	return nil
}

// order lists the types that are wanted, known ones first.
func order(subs map[string]*subscription) []string {
	types := slices.Sorted(maps.Keys(subs))
	slices.SortStableFunc(types, func(a, b string) int { return rank(a) - rank(b) })
	return types
}

func rank(typeURL string) int {
	if i := slices.Index(Types, typeURL); i >= 0 {
		return i
	}
	return len(Types)
}
