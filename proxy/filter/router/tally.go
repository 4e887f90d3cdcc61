package router

import (
	"time"

	"github.com/mallamesh/malla/proxy/header"
)

// A tally is what clusters that track it are told of a try when it is over: how much of its time it took, and how large
// the request and its response were.
type tally struct {
	begun                    int64 // 0: there is nothing to tell
	rqSize, rqFields, rqBody uint64
	rsSize, rsFields, rsBody uint64 // of a response that has come; rsFields 0: none has
}

// begin begins the account of a try.
func (a *attempt) begin() {
	a.account()
	a.tally = tally{}
	a.openJournal()
	r := a.r
	if c := r.cluster; c.Budget == nil && c.Sizes == nil {
		return
	}
	m := &r.s.Request
	a.tally = tally{begun: r.w.Loop.Now(), rqSize: uint64(m.Size()), rqFields: uint64(m.Len())}
}

// answered takes down a response's head.
func (t *tally) answered(m *header.Map) {
	if t.begun != 0 {
		t.rsSize, t.rsFields = uint64(m.Size()), uint64(m.Len())
	}
}

// account tells of a try that is over, once.
func (a *attempt) account() {
	a.closeJournal()
	t := &a.tally
	if t.begun == 0 {
		return
	}
	r := a.r
	if b := r.cluster.Budget; b != nil {
		b.PerTryPercentUsed.Record(percent(r.w.Loop.Now()-t.begun, r.set.perTry))
	}
	if z := r.cluster.Sizes; z != nil {
		z.RqHeadersSize.Record(t.rqSize)
		z.RqHeadersCount.Record(t.rqFields)
		z.RqBodySize.Record(t.rqBody)
		if t.rsFields > 0 {
			z.RsHeadersSize.Record(t.rsSize)
			z.RsHeadersCount.Record(t.rsFields)
			z.RsBodySize.Record(t.rsBody)
		}
	}
	t.begun = 0
}

// spent tells a cluster that tracks it how much of its time a request took that had come whole.
func (r *Router) spent() {
	if b := r.cluster.Budget; b != nil && r.ended {
		b.PercentUsed.Record(percent(r.w.Loop.Now()+1-int64(r.s.Rec.RequestEnd), r.set.timeout))
	}
}

// percent is how much of a time was used. Of a time without end that is nothing.
func percent(used int64, of time.Duration) uint64 {
	if of < time.Millisecond {
		return 0
	}
	return uint64(max(0, used)/int64(time.Millisecond)) * 100 / uint64(of/time.Millisecond)
}
