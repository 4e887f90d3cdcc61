package h2

import "time"

// counts is what Envoy's limits are checked against.
type counts struct {
	appended uint64 // bytes given to the output, ever
	mark     uint64 // bytes before mark hold the frames counted in [0], those behind it the others
	frames   [2]int
	control  [2]int

	empty      int // consecutive
	priorities int
	windows    int
	opened     int // streams
	dataSent   int // frames

	ended     int // requests
	premature int // of these, reset by the peer at once

	resets    int   // that the peer may send yet
	resetsNow int64 // the second in which that was so; 0: never
}

// settle forgets frames that have left. It knows how many bytes are still here, not
// which frames: a frame is forgotten late, but never later than those that were written
// in the meantime.
func (n *counts) settle(buffered int) {
	if n.appended-min(uint64(buffered), n.appended) < n.mark {
		return
	}
	n.frames = [2]int{n.frames[1], 0}
	n.control = [2]int{n.control[1], 0}
	if buffered == 0 {
		n.frames, n.control = [2]int{}, [2]int{}
	}
	n.mark = n.appended
}

// checkOutput looks for peers that make us write and do not read. It does so before new
// input is looked at: what one piece of input makes us write had no chance to leave yet, and is
// bounded by that piece.
func (c *Conn) checkOutput() *Error {
	n := &c.count
	n.settle(c.out.Buffered())
	switch {
	case n.frames[0]+n.frames[1] > c.o.Limits.OutboundFrames:
		return errOutbound
	case n.control[0]+n.control[1] > c.o.Limits.OutboundControlFrames:
		return errControl
	}
	return nil
}

// countEmpty looks at frames that carry nothing and end nothing.
func (c *Conn) countEmpty(empty bool) *Error {
	if !empty {
		c.count.empty = 0
		return nil
	}
	c.count.empty++
	if c.count.empty > c.o.Limits.EmptyFrames {
		return errEmptyFrames
	}
	return nil
}

func (c *Conn) countPriority() *Error {
	c.count.priorities++
	if c.count.priorities > c.o.Limits.PriorityPerStream*(1+c.count.opened) {
		return errPriority
	}
	return nil
}

func (c *Conn) countWindow() *Error {
	c.count.windows++
	if c.count.windows > 5+2*(c.count.opened+c.o.Limits.WindowUpdatesPerData*c.count.dataSent) {
		return errWindowUpdate
	}
	return nil
}

// countReset counts what a client resets, answered or not. It is nghttp2's bucket, which is filled once a second.
func (c *Conn) countReset() *Error {
	if !c.server {
		return nil
	}
	n, l := &c.count, &c.o.Limits
	if now := c.shard.now()/int64(time.Second) + 1; now > n.resetsNow {
		if n.resetsNow == 0 {
			n.resets = l.ResetBurst
		}
		n.resets = min(n.resets+int(min(now-n.resetsNow, 1<<20))*min(l.ResetRate, 1<<31-1), l.ResetBurst)
		n.resetsNow = now
	}
	if n.resets == 0 {
		return errResets
	}
	n.resets--
	return nil
}

// countEnd judges a client by what becomes of its requests, as Envoy does: half of
// the last many reset before they had an answer is too much, and so is a number that can
// only come to that.
func (c *Conn) countEnd(s *Stream, reset bool) *Error {
	if !c.server {
		return nil
	}
	n, limit := &c.count, c.o.Limits.PrematureResets
	n.ended++
	if !reset || s.sentHeaders || c.shard.now()-s.began >= int64(c.o.Limits.PrematureLifetime) {
		return nil
	}
	n.premature++
	if n.premature*2 >= max(n.ended, limit) {
		return errPremature
	}
	return nil
}

// countError counts what has ended the connection.
func (c *Conn) countError(err *Error) {
	st := c.o.Stats
	switch err {
	case errEmptyFrames:
		st.InboundEmptyFramesFlood.Inc()
	case errPriority:
		st.InboundPriorityFramesFlood.Inc()
	case errWindowUpdate:
		st.InboundWindowUpdateFramesFlood.Inc()
	case errOutbound:
		st.OutboundFlood.Inc()
	case errControl:
		st.OutboundControlFlood.Inc()
	case errBlock:
		st.HeaderOverflow.Inc()
	case errPing:
		st.KeepaliveTimeout.Inc()
	}
}

// countFlaw counts a message that is against the rules or the limits.
func (c *Conn) countFlaw(details string) {
	st := c.o.Stats
	switch details {
	case detailsUnderscore:
		st.RequestsRejectedWithUnderscoresInHeaders.Inc()
	case detailsTooMany:
		st.HeaderOverflow.Inc()
	case detailsTooLarge:
		st.HeaderListSizeTooLarge.Inc()
	default:
		st.RxMessagingError.Inc()
	}
}
