package stream

import (
	"slices"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/route"
)

// What filters ask of their stream stands here.

// A chain is the filters of one stream.
type chain struct {
	config      *Chain
	filters     []Filter
	data        []DataFilter    // per filter, nil if it does not see bodies
	trailing    []TrailerFilter // per filter, nil if it does not see trailers
	terminal    Terminal
	anyData     bool
	helpings    bool // there are data filters that do not just watch
	anyTrailing bool
}

func newChain(c *Chain, w *pool.Worker) chain {
	out := chain{config: c}
	last := len(c.Filters) - 1
	for i, f := range c.Filters {
		made := f.New(w)
		if i == last {
			out.terminal = made.(Terminal)
			break
		}
		out.filters = append(out.filters, made.(Filter))
		d, _ := made.(DataFilter)
		out.data = append(out.data, d)
		_, watches := made.(Watcher)
		out.anyData, out.helpings = out.anyData || d != nil, out.helpings || d != nil && !watches
		t, _ := made.(TrailerFilter)
		out.trailing = append(out.trailing, t)
		out.anyTrailing = out.anyTrailing || t != nil
	}
	return out
}

// upgraded gives a request for another protocol the filters that it has of its own, if there are some.
func (s *Stream) upgraded(kind string) {
	if st := s.Config.Stats; st != nil && !s.switched {
		st.DownstreamCxUpgradesTotal.Inc()
		st.DownstreamCxUpgradesActive.Inc()
	}
	s.switched = true
	if c := s.Config.UpgradeChains[kind]; c != nil && s.usual == nil {
		usual := s.chain
		s.usual, s.other, s.chain = &usual, c, s.m.chainFor(c)
	}
}

// chainFor returns the filters of a request that has others than usual, from stock.
func (m *manager) chainFor(c *Chain) chain {
	stock := m.others[c]
	now := c.now()
	for last := len(stock) - 1; last >= 0; last-- {
		made := stock[last]
		stock[last] = chain{}
		m.others[c] = stock[:last]
		if made.config == now {
			return made
		}
	}
	return newChain(now, m.w)
}

// maxOthers is how many chains of one kind stay in stock.
const maxOthers = 64

// keep puts filters back that were not the usual ones.
func (m *manager) keep(c *Chain, used chain) {
	if stock := m.others[c]; len(stock) < maxOthers {
		if m.others == nil {
			m.others = map[*Chain][]chain{}
		}
		m.others[c] = append(stock, used)
	}
}

// FilterConfig returns what the most specific level of the route says to a filter, nil if no level
// does. name is the filter's name in the chain.
func (s *Stream) FilterConfig(name string) any {
	if s.Route == nil {
		return nil
	}
	return s.Route.FilterConfig(name, s.Weighted)
}

// FilterConfigs appends what all levels of the route say to a filter, the most specific first, as far as it is a T.
func FilterConfigs[T any](s *Stream, dst []T, name string) []T {
	if s.Route == nil {
		return dst
	}
	return route.FilterConfigs(s.Route, dst, name, s.Weighted)
}

// switches notes which filters are off for this request: those that the chain has off
// unless the route says something to them, and those that the route has off.
func (s *Stream) switches() {
	s.skip = s.Switched(s.config.Filters, s.config.Off)
}

// Helpings reports whether filters make something of the stream's bodies, which then come in pieces of at most a [pool.Helping].
func (s *Stream) Helpings() bool { return s.helpings }

// Switched returns which filters are off for this request, a bit for each; off are those that are so unless
// the route says something to them.
func (s *Stream) Switched(filters []Factory, off uint64) uint64 {
	if s.Route == nil || off == 0 && !s.Route.SwitchesFilters() {
		return off
	}
	for i, f := range filters {
		switch s.FilterConfig(f.Name()).(type) {
		case nil:
		case route.Off:
			off |= 1 << i
		default:
			off &^= 1 << i
		}
	}
	return off
}

// MaxFilters is how many filters a chain can have: a word has a bit for each.
const MaxFilters = 64

func (s *Stream) skipped(i int) bool { return s.skip>>uint(i)&1 != 0 }

// CollectRequest has the filter that returns it hold the request until it is whole. More than
// limit bytes of body are answered with 413.
func (s *Stream) CollectRequest(limit int) Verdict {
	s.reqHeld.limit = limit
	return Collect
}

// CollectResponse has the filter that returns it hold the response until it is whole. What is beyond limit
// is dropped if cut is set, and otherwise ends the stream.
func (s *Stream) CollectResponse(limit int, cut bool) Verdict {
	s.respHeld.limit, s.respHeld.cut = limit, cut
	return Collect
}

// GatherRequest has the filter that has stopped the request's headers collect it from now on, as
// CollectRequest does. What has come of it meanwhile is shown to the filters before that one.
func (s *Stream) GatherRequest(limit int) {
	h := s.reqHeld
	s.reqHeld = held{headers: true, collect: true, stay: h.stay, limit: limit}
	if len(h.bytes) > 0 || h.end && h.trailers == nil {
		s.passData(h.done, h.bytes, h.end && h.trailers == nil)
	}
	if h.trailers != nil && !s.over && !s.replied {
		s.passTrailers(h.after, h.trailers)
	}
	if !s.over && !s.responded && s.reqWait >= 0 && !s.requested && s.reqPaused == 0 {
		s.down.ResumeRequest()
	}
	s.checkOver()
}

// GatherResponse is GatherRequest for a response, as CollectResponse without cut.
func (s *Stream) GatherResponse(limit int) {
	h := s.respHeld
	s.respHeld = held{headers: true, collect: true, stay: h.stay, limit: limit}
	if s.respEnds {
		s.respHeld.end = true
		return
	}
	if len(h.bytes) > 0 || h.end && h.trailers == nil {
		s.passResponse(len(s.filters)-1-h.done, h.bytes, h.end && h.trailers == nil)
	}
	if h.trailers != nil && !s.over {
		s.passResponseTrailers(len(s.filters)-1-h.done, h.trailers)
	}
	if !s.over && !s.finished && s.respWait >= 0 && s.started && s.respPaused == 0 {
		s.terminal.ResumeResponse()
	}
}

// StayRequest has a request that is collected stay when it is whole, until Proceed; or no longer.
func (s *Stream) StayRequest(on bool) { s.reqHeld.stay = on }

// StayResponse is StayRequest for a response.
func (s *Stream) StayResponse(on bool) { s.respHeld.stay = on }

// HeldRequest returns what is held of a request's body, and its trailers if they have come.
func (s *Stream) HeldRequest() ([]byte, *header.Map) { return s.reqHeld.bytes, s.reqHeld.trailers }

// HeldResponse is HeldRequest for a response.
func (s *Stream) HeldResponse() ([]byte, *header.Map) { return s.respHeld.bytes, s.respHeld.trailers }

// SetHeldRequest puts another body in the place of what is held, which is the whole.
func (s *Stream) SetHeldRequest(b []byte) {
	s.reqHeld.bytes, s.reqHeld.end = append(s.reqHeld.bytes[:0], b...), true
}

// SetHeldResponse is SetHeldRequest for a response.
func (s *Stream) SetHeldResponse(b []byte) {
	s.respHeld.bytes, s.respHeld.end = append(s.respHeld.bytes[:0], b...), true
}

// RequestEnds reports, to OnRequest, whether the request has neither body nor trailers.
func (s *Stream) RequestEnds() bool { return s.reqEnds }

// ResponseEnds reports, to OnResponse, whether the response has neither body nor trailers.
func (s *Stream) ResponseEnds() bool { return s.respEnds }

// InjectResponse passes bytes of a response's body on behind filter f: what it has taken, or
// adds. It may be called inside a turn, after f has seen the headers.
func (s *Stream) InjectResponse(f Filter, b []byte, end bool) {
	if s.over || s.finished || len(b) == 0 && !end {
		return
	}
	if i := s.index(f); i >= 0 {
		s.passResponse(i-1, b, end)
	}
}

// InjectRequest passes bytes of a request's body on behind filter f: what it has taken, or adds. It may be
// called inside a turn, after f has seen the headers.
func (s *Stream) InjectRequest(f Filter, b []byte, end bool) {
	if i := s.index(f); i >= 0 && (len(b) > 0 || end) {
		if !s.over {
			s.down.Alive()
		}
		s.passData(i+1, b, end)
		s.checkOver()
	}
}

// EndRequest ends a request behind filter f, which has taken its end, with trailers.
func (s *Stream) EndRequest(f Filter, m *header.Map) {
	if i := s.index(f); i >= 0 && !s.over && !s.finished && !s.replied {
		s.passTrailers(i+1, m)
		s.checkOver()
	}
}

// EndResponse ends a response behind filter f, which has taken its end, with trailers.
func (s *Stream) EndResponse(f Filter, m *header.Map) {
	if i := s.index(f); i >= 0 && !s.over && !s.finished {
		s.passResponseTrailers(i-1, m)
	}
}

func (s *Stream) index(f Filter) int { return slices.Index(s.filters, f) }

// Active returns the i-th filter of the chain, nil if it is off for this request. ok is false behind the last one.
func (s *Stream) Active(i int) (f Filter, ok bool) {
	if i >= len(s.filters) {
		return nil, false
	}
	if !s.skipped(i) {
		f = s.filters[i]
	}
	return f, true
}

// PauseRequest has the client wait: a filter has as much of the request as it can take. Each filter that has
// paused it calls UnpauseRequest once.
func (s *Stream) PauseRequest() {
	s.reqPaused++
	if !s.over {
		s.down.PauseRequest()
	}
}

// UnpauseRequest lets the client go on, if other filters and the upstream take more.
func (s *Stream) UnpauseRequest() {
	s.reqPaused--
	if s.reqPaused == 0 && !s.over && s.reqWait < 0 && (!s.started || s.passedEnd || !s.terminal.Full()) {
		s.down.ResumeRequest()
	}
}

// PauseResponse has the upstream wait: a filter has as much of the response as it can take. Each filter that has
// paused it calls ResumeResponse once.
func (s *Stream) PauseResponse() {
	s.respPaused++
	if s.started && !s.over {
		s.terminal.PauseResponse()
	}
}

// ResumeResponse lets the upstream go on, if other filters and the client take more.
func (s *Stream) ResumeResponse() {
	s.respPaused--
	if s.respPaused == 0 && s.started && !s.over && s.respWait < 0 && !s.down.Full() {
		s.terminal.ResumeResponse()
	}
}

// Reroute picks the route once more, from the request as filters have made it.
func (s *Stream) Reroute() {
	s.match()
	s.down.Alive()
}

// Restart leads a request that a filter holds through the chain once more, as if it had just come:
// with the route table of now, and through all filters.
func (s *Stream) Restart() {
	if s.over || s.responded || s.reqWait < 0 {
		return
	}
	for i, f := range s.filters[:s.at] {
		if e, ok := f.(Ender); ok && !s.skipped(i) {
			e.OnEnd(s)
		}
	}
	s.at, s.reqWait, s.reqHeld.headers = 0, -1, true
	s.Upgrade, s.lostUpgrade = s.Upgrade || s.lostUpgrade, false
	if s.Reroute(); !s.mayUpgrade() {
		return
	}
	s.switches()
	s.proceedFrom(-1)
}

// A Waiter is told once when the one that it waits for takes more, or may. What it does then may end the stream.
type Waiter interface{ OnRoom() }

// ClientFull reports whether the client takes no more for the moment. If so, w will be told when it does.
func (s *Stream) ClientFull(w Waiter) bool {
	full := s.down.Full()
	if full {
		s.forClient = append(s.forClient, w)
	}
	return full
}

// UpstreamFull reports whether the upstream takes no more for the moment. If so, w will be told when it does.
func (s *Stream) UpstreamFull(w Waiter) bool {
	full := s.started && s.terminal.Full()
	if full {
		s.forUpstream = append(s.forUpstream, w)
	}
	return full
}

// tell tells those who wait now; who goes on waiting after that is told next time.
func (s *Stream) tell(list *[]Waiter) {
	gen := s.gen
	for n := len(*list); n > 0 && s.gen == gen && !s.over; n-- {
		w := (*list)[0]
		*list = slices.Delete(*list, 0, 1)
		w.OnRoom()
	}
}
