package build

import (
	"hash/maphash"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/stats"
)

// A builtChain is a filter chain with all that it holds. If nothing but its chains changes, a listener's successor takes over those
// that stay as they are: connections in them never learn of the change, and what their filters keep stays.
type builtChain struct {
	chain   *listen.Chain
	sum     uint64 // of what it was built of
	holders int    // listeners that have it
	held
}

// release gives back what the chain holds, if nobody has it any more.
func (b *builtChain) release() {
	if b.holders--; b.holders > 0 {
		return
	}
	b.close()
}

// built returns the chain of a message: the one that the predecessor has, or a new one.
func (r *listenerReader) built(f *listenerv3.FilterChain, at *field.Path) *listen.Chain {
	sum := sumOf(f)
	b := r.before.chain(sum)
	if b == nil {
		own := &listenerReader{reader: reader{env: r.env}, outbound: r.outbound, statName: r.statName, clusters: r.clusters}
		b = &builtChain{chain: own.chain(f, at), sum: sum}
		b.held = own.held()
		r.errs = append(r.errs, own.errs...)
	}
	b.holders++
	r.chains = append(r.chains, b)
	r.needs.add(b.needs)
	for name, uses := range b.tables {
		if r.tables == nil {
			r.tables = map[string][]*stats.RDSUse{}
		}
		r.tables[name] = append(r.tables[name], uses...)
	}
	return b.chain
}

// chain finds a chain that the listener has; l may be nil.
func (l *Listener) chain(sum uint64) *builtChain {
	if l == nil {
		return nil
	}
	if i := slices.IndexFunc(l.chains, func(b *builtChain) bool { return b.sum == sum }); i >= 0 {
		return l.chains[i]
	}
	return nil
}

// leaves counts the chains that a listener's successor has not taken over.
func (l *Listener) leaves(to *Listener) (n int) {
	for _, b := range l.chains {
		if !slices.Contains(to.chains, b) {
			n++
		}
	}
	return n
}

// add adds what something else needs.
func (n *Needs) add(more Needs) {
	n.Routes = append(n.Routes, more.Routes...)
	n.Endpoints = append(n.Endpoints, more.Endpoints...)
	n.Secrets = append(n.Secrets, more.Secrets...)
	n.Clusters = append(n.Clusters, more.Clusters...)
}

var sumSeed = maphash.MakeSeed()

// sumOf is the same for equal messages.
func sumOf(m proto.Message) uint64 {
	text, _ := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(m) // of what was read just now
	return maphash.Bytes(sumSeed, text)
}

// frameSum is the same for listeners that differ in their filter chains only, and in how these are chosen: one may follow the other in place. The old
// way of asking for the PROXY protocol, which stands in a chain, is the listener's.
func frameSum(m *listenerv3.Listener) uint64 {
	chains, rest, tree := m.GetFilterChains(), m.GetDefaultFilterChain(), m.GetFilterChainMatcher()
	m.FilterChains, m.DefaultFilterChain, m.FilterChainMatcher = nil, nil, nil
	sum := sumOf(m)
	m.FilterChains, m.DefaultFilterChain, m.FilterChainMatcher = chains, rest, tree
	if len(chains) > 0 && chains[0].GetUseProxyProto().GetValue() { //nolint:staticcheck // deprecated, still in use
		sum++
	}
	return sum
}
