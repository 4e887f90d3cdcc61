package drive

import (
	"math"

	"github.com/mallamesh/malla/proxy/stats"
)

// A Meter counts the bytes of connections, of one or of many of a loop's, for statistics: what was read and written (of TLS,
// what it holds), and what is buffered. As in Envoy the latter is what a reader was given last, consumed or not, and what the
// socket has not taken.
//
// Counting is an addition in the loop's own memory. What has come together is published at the end of the turn, so
// that a byte costs no atomic operation. A Meter stays where it is once a connection has it.
type Meter struct {
	Rx, Tx         *stats.Counter
	RxHeld, TxHeld *stats.Gauge

	rx, tx         uint64 // not published yet
	rxHeld, txHeld int64
	noted          bool // in loop.meters
}

// MeterOf counts what passes connections to a cluster's hosts.
func MeterOf(st *stats.Cluster) Meter {
	return Meter{Rx: &st.UpstreamCxRxBytesTotal, Tx: &st.UpstreamCxTxBytesTotal, RxHeld: &st.UpstreamCxRxBytesBuffered, TxHeld: &st.UpstreamCxTxBytesBuffered}
}

// SetMeter has the connection's bytes counted from now on; input that waits for the handler has come now.
func (c *Conn) SetMeter(m *Meter) {
	c.meterEnd()
	c.meter = m
	n := len(c.in)
	if c.tls == nil {
		c.before = int32(min(c.BytesIn-uint64(n), math.MaxInt32))
	}
	if n > 0 {
		c.meterIn(n, n)
	}
}

// Carried is how many bytes the connection has read since it has a meter (of TLS, what it holds), and how many it has written
// or is about to.
func (c *Conn) Carried() (in, out uint64) {
	if s := c.tls; s != nil {
		return s.carriedIn, s.carriedOut + uint64(c.queued())
	}
	return c.BytesIn - uint64(c.before), c.BytesOut + uint64(c.queued())
}

// meterIn counts n bytes that were read; the handler is given held, with those that it has left before.
func (c *Conn) meterIn(n, held int) {
	m := c.meter
	if m == nil {
		return
	}
	m.rx += uint64(n)
	m.rxHeld += int64(held) - int64(c.heldIn)
	c.heldIn = int32(held)
	if c.tls != nil {
		c.tls.carriedIn += uint64(n)
	}
	c.loop.note(m)
}

// meterOut counts n bytes that were written.
func (c *Conn) meterOut(n int) {
	if m := c.meter; m != nil && n > 0 {
		m.tx += uint64(n)
		if c.tls != nil {
			c.tls.carriedOut += uint64(n)
		}
		c.loop.note(m)
	}
}

// meterHeld takes down what the socket has not taken.
func (c *Conn) meterHeld() {
	m := c.meter
	if m == nil {
		return
	}
	held := c.queued()
	if c.pipe != nil {
		held += c.pipe.n
	}
	if held := int32(held); held != c.heldOut {
		m.txHeld += int64(held - c.heldOut)
		c.heldOut = held
		c.loop.note(m)
	}
}

// meterEnd takes the connection's share out of what is buffered.
func (c *Conn) meterEnd() {
	m := c.meter
	if m == nil || c.heldIn == 0 && c.heldOut == 0 {
		return
	}
	m.rxHeld -= int64(c.heldIn)
	m.txHeld -= int64(c.heldOut)
	c.heldIn, c.heldOut = 0, 0
	c.loop.note(m)
}

func (l *Loop) note(m *Meter) {
	if !m.noted {
		m.noted = true
		l.meters = append(l.meters, m)
	}
}

// publish shows what the turn has counted.
func (l *Loop) publish() {
	for i, m := range l.meters {
		l.meters[i] = nil
		m.publish()
	}
	l.meters = l.meters[:0]
}

func (m *Meter) publish() {
	if m.rx > 0 {
		m.Rx.Add(m.rx)
	}
	if m.tx > 0 {
		m.Tx.Add(m.tx)
	}
	if m.rxHeld != 0 {
		m.RxHeld.Add(m.rxHeld)
	}
	if m.txHeld != 0 {
		m.TxHeld.Add(m.txHeld)
	}
	m.rx, m.tx, m.rxHeld, m.txHeld, m.noted = 0, 0, 0, 0, false
}
