package ratelimitservice

import (
	"bytes"
	"cmp"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/call"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/stream"
)

// ask sends the question. The verdict is Stop unless the answer is here already.
func (f *filter) ask(service *cluster.Cluster, word *Word) {
	f.write(&f.call, f.s, word)
	f.verdict, f.starting = stream.Stop, true
	f.call.Start(f.w, service, f.config.Timeout)
	f.starting = false
}

// write makes a call the question about the descriptors.
func (f *filter) write(c *call.Call, s *stream.Stream, word *Word) {
	domain := f.config.Domain
	if word != nil && word.Domain != "" {
		domain = word.Domain
	}
	hits := uint64(0)
	if v, ok := s.Rec.State.Get(hitsKey); ok {
		hits, _ = strconv.ParseUint(string(v), 10, 32)
	}
	c.Body = append(c.Body[:0], make([]byte, call.MessageAt)...)
	c.Body = appendRequest(c.Body, domain, f.descriptors.List, hits)
	c.GRPC(f.authority, method, f.config.Timeout)
}

// endTimeout is how long a service that has no timeout has for what it is told at the end: nobody waits for it, so nobody else would
// give it up.
const endTimeout = 10 * time.Second

// tellEnd tells the service of limits that count when the stream is over. What it says to that changes nothing, so nobody waits for it.
func (f *filter) tellEnd(s *stream.Stream) {
	word, _ := s.FilterConfig(f.name).(*Word)
	f.descriptors.Reset()
	f.descriptors.AtEnd = true
	f.describe(s, word)
	service := f.w.Source.Cluster(f.config.Cluster)
	if len(f.descriptors.List) == 0 || service == nil {
		return
	}
	c := &call.Call{Done: func(*call.Call) {}} // it outlives the stream
	f.write(c, s, word)
	c.Start(f.w, service, cmp.Or(f.config.Timeout, endTimeout))
}

// answered goes on with what the service said.
func (f *filter) answered(c *call.Call) {
	message, ok := c.Message()
	if !ok || f.answer.parse(message) != nil {
		f.failed()
		return
	}
	if len(f.answer.metadata) > 0 {
		if fields, err := f.config.Decode(f.answer.metadata); err == nil {
			f.s.Rec.Dynamic.Merge(f.config.Namespace, fields)
		}
	}
	if f.answer.code == codeOverLimit {
		f.counted.OverLimit.Inc()
		f.over = true
		if to := f.w.Source.Cluster(f.s.Cluster); to != nil {
			to.Stats.Count(f.config.Status, true)
		}
	} else { // also if the service does not know, or says something new; Envoy takes that so
		f.counted.OK.Inc()
	}
	f.tells = true
	if f.over && f.config.Enforced.Hit(f.w.Random()) {
		f.s.ReplyWith(f.config.Status, string(f.answer.body), "request_rate_limited", f.refuse, access.RateLimited)
		return
	}
	add(&f.s.Request, f.answer.request)
	f.resume()
}

// add adds the service's fields to a message, but for those that would break it apart: the service may repeat what it was told of a
// client.
func add(m *header.Map, fields []pair) {
	for _, p := range fields {
		name := bytes.ToLower(p.name)
		switch {
		case !header.ValidName(name), !header.ValidValue(p.value), string(name) == "content-length", string(name) == "transfer-encoding":
		default:
			m.AddNameCopy(name, p.value)
		}
	}
}

// failed goes on without an answer.
func (f *filter) failed() {
	f.counted.Error.Inc()
	if f.config.Deny.Hit(f.w.Random()) {
		f.verdict = stream.Stop
		f.s.Reply(f.config.ErrorStatus, "", "rate_limiter_error", access.RateLimitServiceError)
		return
	}
	f.counted.FailureModeAllowed.Inc()
	f.resume()
}

func (f *filter) resume() {
	if f.starting {
		f.verdict = stream.Continue
		return
	}
	f.s.Proceed()
}

// refuse adds fields to the answer of a request that is over its limit.
func (f *filter) refuse(m *header.Map) {
	f.tell(m)
	f.config.Response.Apply(m, &f.s.Rec)
	if !f.s.GRPC {
		return
	}
	m.Set(header.ContentType, grpcType) // whatever the service would have
	if f.config.Exhausted {
		m.Set(header.GrpcStatus, exhausted)
	}
}

// OnResponse tells what the service said.
func (f *filter) OnResponse(_ *stream.Stream, m *header.Map) stream.Verdict {
	f.tell(m)
	return stream.Continue
}

// tell adds, once, the service's fields and the state of the limit that is nearest.
func (f *filter) tell(m *header.Map) {
	if !f.tells {
		return
	}
	f.tells = false
	add(m, f.answer.response)
	if f.over && !f.config.NoMark {
		m.Set(header.XEnvoyRateLimited, yes)
	}
	if f.config.Headers {
		f.limits(m)
	}
	if f.over && f.config.RetryAfter && f.config.Status == 429 && !m.Has(header.RetryAfter) {
		f.retryAfter(m)
	}
}

func (f *filter) limits(m *header.Map) {
	var nearest *status
	var policy []byte
	for i := range f.answer.statuses {
		s := &f.answer.statuses[i]
		if !s.limited {
			continue
		}
		if nearest == nil || s.remaining < nearest.remaining {
			nearest = s
		}
		if w := window(s.unit); w > 0 {
			policy = append(policy, ", "...)
			policy = strconv.AppendUint(policy, s.perUnit, 10)
			policy = append(policy, ";w="...)
			policy = strconv.AppendInt(policy, w, 10)
			if len(s.name) > 0 && header.ValidValue(s.name) && bytes.IndexByte(s.name, '"') < 0 {
				policy = append(append(append(policy, `;name="`...), s.name...), '"')
			}
		}
	}
	if nearest == nil {
		return
	}
	m.AddNameCopy(limitHeader, append(strconv.AppendUint(nil, nearest.perUnit, 10), policy...))
	m.AddNameCopy(remainingHeader, strconv.AppendUint(nil, nearest.remaining, 10))
	m.AddNameCopy(resetHeader, strconv.AppendInt(nil, nearest.reset, 10))
}

// retryAfter says when all limits that the request is over will be there again.
func (f *filter) retryAfter(m *header.Map) {
	longest := int64(-1)
	for _, s := range f.answer.statuses {
		if s.code == codeOverLimit {
			longest = max(longest, s.reset)
		}
	}
	if longest >= 0 {
		m.AddCopy(header.RetryAfter, strconv.AppendInt(nil, max(1, longest), 10))
	}
}

// OnEnd stops waiting. As in Envoy, a stream that ends while the service is asked about it counts no more.
func (f *filter) OnEnd(s *stream.Stream) {
	if asking := f.call.Cancel(); f.later && !asking {
		f.tellEnd(s)
	}
	f.s, f.counted, f.over, f.tells, f.later = nil, nil, false, false, false
}
