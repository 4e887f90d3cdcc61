package drive

import "io"

// Bulk of bytes that only passes from one plain socket to another need not be seen: splice(2)
// moves the kernel's pages through a pipe. A pipe costs two descriptors and each piece two
// calls, so input is spliced only after several long reads in a row, and no longer once
// pieces get short. Pipes belong to the loop; a connection has one only while its peer does
// not take what is in it.

// A SpliceHandler is told of bytes that have passed it by.
type SpliceHandler interface {
	Handler
	// OnSpliced says that n bytes of c's input are output of the other connection now, as if
	// OnData had been given them and had written them there.
	OnSpliced(c *Conn, n int)
}

const (
	bulkRead    = 48 << 10  // a read of so much is a long one
	bulkReads   = 3         // so many of them in a row begin splicing
	splicePiece = 256 << 10 // moved at once
	spliceShort = 16 << 10  // pieces that are shorter end splicing
	sparePipes  = 8         // kept by a loop
)

// A pipe is between two sockets.
type pipe struct {
	r, w int
	n    int // bytes in it
}

// splicer is a socket that moves bytes to and from pipes.
type splicer interface {
	spliceIn(p *pipe, n int) (int, error)
	spliceOut(p *pipe) (int, error)
}

// SpliceTo allows the loop to move input of c to the output of to without showing it. It does so
// where both are plain sockets and nothing is on its way between them. c's handler has to be
// a SpliceHandler; nil ends it.
func (c *Conn) SpliceTo(to *Conn) { c.toward, c.bulk = to, 0 }

// longRead notes how much a read gave.
func (c *Conn) longRead(n int) {
	switch {
	case c.toward == nil:
	case n < bulkRead:
		c.bulk = 0
	case c.bulk < bulkReads:
		c.bulk++
	}
}

// canSplice reports whether the next input may go by splice.
func (c *Conn) canSplice() bool {
	to := c.toward
	if to == nil || c.bulk < bulkReads || len(c.in) > 0 || c.state.closing != open || !to.Alive() || to.state.blocked || to.state.shut ||
		to.state.connecting || c.tls != nil || to.tls != nil || to.Buffered() > 0 {
		return false
	}
	_, in := c.sock.(splicer)
	_, out := to.sock.(splicer)
	return in && out
}

// pumpSplice moves one piece; it reports whether there may be more.
func (c *Conn) pumpSplice() bool {
	to, p := c.toward, c.loop.pipe()
	if p == nil { // no descriptors left: copy
		c.bulk = 0
		return true
	}
	n, err := c.sock.(splicer).spliceIn(p, splicePiece)
	if n == 0 {
		c.loop.putPipe(p)
		if err != errAgain && err != io.EOF { // let read say what is wrong: not every socket can be spliced
			c.bulk = 0
			return true
		}
		c.noInput(err)
		return false
	}
	p.n = n
	if n < spliceShort {
		c.bulk = 0
	}
	c.BytesIn += uint64(n)
	c.meterIn(n, n)
	to.pipe = p
	to.flushPipe() // what fails here fails again in flush
	if to.pipe != nil {
		to.state.full = true
		to.touch()
	}
	c.h.(SpliceHandler).OnSpliced(c, n)
	return true
}

// flushPipe writes what is in the pipe; it returns nil while there is something left that the
// socket does not take now.
func (c *Conn) flushPipe() error {
	p := c.pipe
	for p.n > 0 {
		n, err := c.sock.(splicer).spliceOut(p)
		if err == errAgain || err == nil && n == 0 {
			c.stuck()
			return nil
		}
		if err != nil {
			return err
		}
		p.n -= n
		c.BytesOut += uint64(n)
		c.meterOut(n)
		c.progress()
	}
	c.pipe = nil
	c.loop.putPipe(p)
	return nil
}

// pipe returns an empty pipe, nil if there is none to be had.
func (l *Loop) pipe() *pipe {
	if last := len(l.pipes) - 1; last >= 0 {
		p := l.pipes[last]
		l.pipes = l.pipes[:last]
		return p
	}
	return newPipe()
}

// putPipe takes a pipe back.
func (l *Loop) putPipe(p *pipe) {
	if p.n == 0 && len(l.pipes) < sparePipes {
		l.pipes = append(l.pipes, p)
		return
	}
	p.close()
}
