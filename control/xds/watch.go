package xds

import (
	"slices"
	"sort"
	"strings"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Resource is one resource as it goes over the wire. Equal bodies have equal
// versions, also after a restart of the control plane: that is what lets a
// reconnecting proxy keep what it has.
type Resource struct {
	Body    *anypb.Any
	Version string
}

// Resources is what one proxy may see of one generation. It never changes.
type Resources interface {
	// Generation counts up with every change of configuration.
	Generation() uint64
	// Names lists, sorted, what a wildcard subscription to the type gets.
	Names(typeURL string) []string
	// Resource returns the resource called name, and whether there is one. It is made
	// once: asking again costs a look into a table.
	Resource(typeURL, name string) (Resource, bool)
}

// gone is the version of a resource that a client was told does not exist.
const gone = "-"

// maxUnanswered bounds how many responses of one type a client may leave
// without an answer before we forget the oldest.
const maxUnanswered = 64

// A watch is the state of one client's subscription to one type. Its methods
// read no clock, take no lock and send nothing: they are the protocol's steps.
type watch struct {
	typeURL    string
	wildcard   bool
	asked      map[string]bool   // by name
	size       int               // of asked, with what it takes beside the names
	have       map[string]string // version of each resource at the client, or gone
	lacks      map[string]bool   // of have: what the client has not taken in any version yet
	unanswered []response        // oldest first
	seen       uint64            // newest generation compared with what the client has
	acked      uint64            // newest generation the client has in full
	refusals   refusals          // that stand
	started    bool
}

// response remembers one response until it is answered.
type response struct {
	nonce      string
	generation uint64
	names      []string
	whole      bool // it held all that the client is to have
}

// change is what a client lacks: resources to send, names to remove.
type change struct {
	resources []*discovery.Resource
	removed   []string
}

func (c change) empty() bool { return len(c.resources) == 0 && len(c.removed) == 0 }

func (c change) names() []string {
	names := slices.Clone(c.removed)
	for _, r := range c.resources {
		names = append(names, r.GetName())
	}
	return names
}

func newWatch(typeURL string) *watch {
	return &watch{typeURL: typeURL, asked: map[string]bool{}, have: map[string]string{}, lacks: map[string]bool{}}
}

// subscribe applies the subscription part of a delta request and reports whether
// the client must get a response even if nothing is new to it.
func (w *watch) subscribe(req *discovery.DeltaDiscoveryRequest) (answer bool) {
	first := !w.started
	w.started = true
	if first {
		for name, version := range req.GetInitialResourceVersions() {
			w.have[name] = version
		}
		// A first request that names nothing is a wildcard: for Envoy of clusters and listeners only
		// (xDS protocol, "how the client specifies what resources to return").
		if len(req.GetResourceNamesSubscribe()) == 0 && wildcardByDefault(w.typeURL) {
			w.wildcard = true
		}
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if name == "*" {
			w.wildcard = true
			continue
		}
		if !w.asked[name] {
			w.asked[name] = true
			w.size += nameCost + len(name)
		}
		if !first { // asking again asks for it to be sent again
			delete(w.have, name)
		}
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		if name == "*" {
			w.wildcard = false
			continue
		}
		if w.asked[name] {
			delete(w.asked, name)
			w.size -= nameCost + len(name)
		}
		if !w.wildcard {
			w.forget(name)
		}
	}
	return first || len(req.GetResourceNamesSubscribe()) > 0
}

// ask replaces the names of a state-of-the-world subscription and reports
// whether the client must get a response.
func (w *watch) ask(names []string) (answer bool) {
	first := !w.started
	w.started = true
	if first && len(names) == 0 && wildcardByDefault(w.typeURL) {
		w.wildcard = true
		return true
	}
	asked := map[string]bool{}
	wildcard := false
	for _, n := range names {
		if n == "*" {
			wildcard = true
			continue
		}
		asked[n] = true
		if !w.asked[n] {
			answer = true
			delete(w.have, n)
		}
	}
	if len(names) > 0 || !w.wildcard {
		answer = answer || wildcard && !w.wildcard
		w.wildcard = wildcard || w.wildcard && len(names) == 0
		for n := range w.asked {
			if !asked[n] {
				w.forget(n)
			}
		}
		w.asked, w.size = asked, 0
		for n := range asked {
			w.size += nameCost + len(n)
		}
	}
	return first || answer
}

// forget drops what is known of a name that the client is not to have any more.
func (w *watch) forget(name string) {
	delete(w.have, name)
	delete(w.lacks, name)
	w.refusals.drop(name)
}

// diff returns what the client lacks of r, and notes it as sent.
func (w *watch) diff(r Resources) change {
	var c change
	names := w.wanted(r)
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
		res, ok := r.Resource(w.typeURL, name)
		switch {
		case ok && w.have[name] != res.Version:
			if old := w.have[name]; old == "" || old == gone {
				w.lacks[name] = true
			}
			w.have[name] = res.Version
			c.resources = append(c.resources, &discovery.Resource{Name: name, Version: res.Version, Resource: res.Body})
		case !ok && w.have[name] != gone:
			w.have[name] = gone // an unknown name is answered, never left hanging
			w.refusals.drop(name)
			c.removed = append(c.removed, name)
		}
	}
	for name, version := range w.have {
		if wanted[name] {
			continue
		}
		w.forget(name)
		if version != gone {
			c.removed = append(c.removed, name)
		}
	}
	sort.Strings(c.removed)
	w.seen = r.Generation()
	if c.empty() && len(w.unanswered) == 0 {
		w.acked = w.seen
	}
	return c
}

// wanted lists the names that the subscription covers now.
func (w *watch) wanted(r Resources) []string {
	var names []string
	if w.wildcard {
		names = slices.Clone(r.Names(w.typeURL))
	}
	for n := range w.asked {
		names = append(names, n)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// all returns every resource of the subscription, for a state-of-the-world
// response, and notes them as sent.
func (w *watch) all(r Resources) []*anypb.Any {
	var out []*anypb.Any
	clear(w.have)
	for _, name := range w.wanted(r) {
		if res, ok := r.Resource(w.typeURL, name); ok {
			w.have[name] = res.Version
			out = append(out, res.Body)
		} else {
			w.have[name] = gone
		}
	}
	w.seen = r.Generation()
	return out
}

// sent notes a response that is on its way.
func (w *watch) sent(nonce string, names []string) {
	if len(w.unanswered) == maxUnanswered {
		w.unanswered = w.unanswered[1:]
	}
	w.unanswered = append(w.unanswered, response{nonce: nonce, generation: w.seen, names: names})
}

// sentAll notes a response that holds all that the client is to have.
func (w *watch) sentAll(nonce string, names []string) {
	w.sent(nonce, names)
	w.unanswered[len(w.unanswered)-1].whole = true
}

// answered applies an ACK, or a NACK if detail is not empty. It reports whether
// the nonce is one that we wait for.
func (w *watch) answered(nonce, detail string, at time.Time) bool {
	i := slices.IndexFunc(w.unanswered, func(r response) bool { return r.nonce == nonce })
	if i < 0 {
		return false
	}
	r := w.unanswered[i]
	w.unanswered = w.unanswered[i+1:]
	if detail != "" {
		// The client keeps its last good version. What we have noted as sent stays noted: the same
		// bytes would be refused again, so they are not sent again before they change.
		if len(detail) > maxDetail {
			detail = strings.ToValidUTF8(detail[:maxDetail], "") + "..."
		}
		fault, lacking := w.refused(r.names, detail)
		w.refusals.add(&Nack{Type: w.typeURL, Names: fault, Detail: detail, At: at, Lacking: lacking})
		return true
	}
	for _, name := range r.names {
		delete(w.lacks, name)
	}
	if w.refusals.drop(r.names...); r.whole {
		w.refusals.clear()
	}
	w.acked = max(w.acked, r.generation)
	if len(w.unanswered) == 0 {
		w.acked = max(w.acked, w.seen)
	}
	return true
}

// refused lists what is at fault of the names in a response that the client refuses, and what it lacks of these. Those that it does not name are not
// at fault, if it names any.
func (w *watch) refused(names []string, detail string) (fault, lacking []string) {
	named := make([]bool, len(names))
	some := false
	for i, name := range names {
		named[i] = mentions(detail, name)
		some = some || named[i]
	}
	for i, name := range names {
		if some && !named[i] {
			delete(w.lacks, name)
			w.refusals.drop(name)
			continue
		}
		if fault = append(fault, name); w.lacks[name] {
			lacking = append(lacking, name)
		}
	}
	return fault, lacking
}
