package compile

import (
	"time"

	"github.com/mallamesh/malla/model"
)

// aged is what decides who is older.
type aged struct {
	at  time.Time
	ref model.Ref
}

func (a aged) compare(b aged) int {
	switch {
	case model.Older(a.at, a.ref, b.at, b.ref):
		return -1
	case model.Older(b.at, b.ref, a.at, a.ref):
		return 1
	}
	return 0
}

func refOfRules(r *model.RouteRules) aged        { return aged{r.Created, r.From} }
func refOfPolicy(d *model.DestinationRule) aged  { return aged{d.Created, d.From} }
func refOfGateway(g *model.Gateway) aged         { return aged{g.Created, g.From} }
func refOfPeer(p *model.PeerAuthentication) aged { return aged{p.Created, p.From} }
func refOfScope(s *model.Scope) aged             { return aged{s.Created, s.From} }
func refOfPatches(p *model.Patches) aged         { return aged{p.Created, p.From} }
func refOfNames(p *model.NamePolicy) aged        { return aged{p.Created, p.From} }
