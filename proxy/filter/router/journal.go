package router

import (
	"strings"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/pool"
)

// Logs are the access logs of tries (upstream_log): they are told of each when it is over.
type Logs struct {
	List  []listen.Log
	Ready bool          // and when it has its connection
	Every time.Duration // and so often while it goes on; 0: not
}

// A journal is what those logs are told of a try. A try has one only where there are logs.
type journal struct {
	rec                access.Record
	open               bool // its end is still to be told
	start              time.Time
	began, sent        access.Mark
	answered           access.Mark // 0: no response has come
	info               pool.Info   // of its connection; empty: it has none
	flag               access.Flag // why it has ended before its time
	why                string
	code               int
	response, trailers header.Map // as they came
	trailed            bool
}

// openJournal begins the journal of a try whose host is chosen.
func (a *attempt) openJournal() {
	r := a.r
	if len(r.config.Logs.List) == 0 {
		return
	}
	if a.journal == nil {
		a.journal = new(journal)
	}
	j := a.journal
	j.open, j.start, j.began, j.sent, j.answered = true, r.w.Loop.Wall(), r.mark(), 0, 0
	j.info, j.flag, j.why, j.code, j.trailed = pool.Info{}, access.NoFlag, "", 0, false
	j.response.Reset()
	j.trailers.Reset()
	if every := r.config.Logs.Every; every > 0 {
		r.w.Loop.Schedule(&a.timers[timerLog], every)
	}
}

// connected takes down the connection of a try.
func (j *journal) connected(a *attempt, info *pool.Info) {
	if j == nil {
		return
	}
	j.info = *info
	if a.r.config.Logs.Ready {
		a.tell(access.UpstreamPoolReady)
	}
}

// gone takes down that all of the request has been sent.
func (j *journal) gone(now access.Mark) {
	if j != nil && j.sent == 0 {
		j.sent = now
	}
}

// headed takes down a response's head.
func (j *journal) headed(m *header.Map, now access.Mark) {
	if j != nil {
		j.response.CopyFrom(m)
		j.code, j.answered = m.StatusCode(), now
	}
}

// ended takes down trailers.
func (j *journal) ended(m *header.Map) {
	if j != nil {
		j.trailers.CopyFrom(m)
		j.trailed = true
	}
}

// failed takes down why a try has no end of its own.
func (j *journal) failed(flag access.Flag, why string) {
	if j != nil {
		j.flag, j.why = flag, strings.ReplaceAll(why, " ", "_")
	}
}

// closeJournal tells of the end of a try, once.
func (a *attempt) closeJournal() {
	if j := a.journal; j != nil && j.open {
		j.open = false
		a.r.w.Loop.Cancel(&a.timers[timerLog])
		a.tell(access.UpstreamEnd)
		j.info, j.rec = pool.Info{}, access.Record{Scratch: j.rec.Scratch} // whose pointers are others' by then
	}
}

// goOn tells of a try that goes on.
func (a *attempt) goOn() {
	a.tell(access.UpstreamPeriodic)
	a.r.w.Loop.Schedule(&a.timers[timerLog], a.r.config.Logs.Every)
}

// tell writes the logs. What a try has of its own takes the place of what the request has; what filters have said of the request
// is the request's alone, as in Envoy.
func (a *attempt) tell(t access.Type) {
	r, j := a.r, a.journal
	s, rec := r.s, &j.rec
	scratch := rec.Scratch
	*rec = s.Rec
	rec.Type, rec.Scratch = t, scratch
	rec.State, rec.Dynamic = access.State{}, metadata.Dynamic{}
	rec.Start, rec.Began, rec.Ended = j.start, j.began, r.mark()
	rec.RequestEnd, rec.UpstreamBegin, rec.UpstreamSent, rec.ResponseBegin, rec.ResponseEnd, rec.BodyBegin = 0, 0, j.sent, j.answered, 0, 0
	rec.DownstreamSend, rec.DownstreamSent = 0, 0
	rec.Asked = j.began
	rec.Request, rec.Response, rec.Trailers = &s.Request, nil, nil
	if j.answered != 0 {
		rec.Response = &j.response
	}
	if j.trailed {
		rec.Trailers = &j.trailers
	}
	rec.Code, rec.CodeDetails, rec.Flags, rec.UpstreamFailure = uint16(j.code), "", 0, j.why
	rec.Flags.Set(j.flag)
	rec.BytesReceived, rec.BytesSent = a.tally.rsBody, a.tally.rqBody
	rec.Attempts, rec.VirtualCluster, rec.LocalReplyBody, rec.RequestID = 0, "", "", nil
	rec.ClientEnd, rec.HostEnd, rec.ClientClose, rec.HostClose = access.Closing{}, access.Closing{}, access.CloseNormal, access.CloseNormal
	s.MeasureClient(&rec.Down)
	h := a.host
	rec.UpstreamHost, rec.UpstreamHostName, rec.Configured[metadata.Host], rec.Locality = h.Addr, h.Name, h.Metadata.All, &h.Locality
	rec.Configured[metadata.Locality] = h.Metadata.Around
	held := &j.info
	rec.Protocol, rec.UpstreamProtocol = held.Protocol, held.Protocol
	rec.UpstreamLocal, rec.UpstreamRemote, rec.UpstreamConnID = held.Local, held.Remote, held.ConnID
	rec.Upstream, rec.UpstreamState, rec.Dial = held.TLS, held.State, held.Dial
	for _, l := range r.config.Logs.List {
		l.Log(r.w.Index, rec)
	}
}
