package listen

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/metadata"
)

// Fill takes down what a record says of the connection.
func (c *Conn) Fill(r *access.Record) {
	if c.fill(r); c.State != nil {
		r.State.Inherit(c.State)
	}
}

func (c *Conn) fill(r *access.Record) {
	r.ConnectionID, r.Opened = c.ID, access.Mark(c.Opened+1)
	r.DownstreamLocal, r.DownstreamRemote = c.Local, c.Remote
	r.DirectLocal, r.DirectRemote = c.DirectLocal, c.Conn.RemoteAddr()
	if c.prints != nil {
		r.JA3, r.JA4 = c.prints.ja3, c.prints.ja4
	}
	r.SNI, r.Downstream, r.Handshake = c.SNI, c.TLS, c.Handshake
	r.Direction, r.Configured[metadata.Listener] = c.Listener.Direction, c.Listener.Metadata
	if c.Chain != nil {
		r.FilterChain, r.Configured[metadata.Chain] = c.Chain.Name, c.Chain.Metadata
	}
}

// Say has f, which is given all that is known of the connection, say more of it.
func (c *Conn) Say(f func(r *access.Record)) {
	var r access.Record
	c.fill(&r)
	r.Dynamic.Inherit(&c.Dynamic)
	if c.State != nil {
		r.State.Copy(c.State)
	}
	f(&r)
	state := r.State // the rest of the record is not to live as long as the connection
	c.State = &state
}

// log tells the listener's logs of a connection that is over.
func (c *Conn) log(flag access.Flag, details, failure string) {
	if len(c.Listener.Logs) == 0 {
		return
	}
	r := &access.Record{CodeDetails: details, LocalFailure: failure}
	r.Flags.Set(flag)
	c.describe(r)
	c.Tell(r)
}

// Speaks notes which HTTP the client speaks; its first words count.
func (c *Conn) Speaks(p access.Protocol) {
	if c.spoken == 0 {
		c.spoken = uint8(p)
	}
}

// Malformed notes that what the client says breaks the rules of its protocol.
func (c *Conn) Malformed() { c.spoken |= malformed }

const malformed = 1 << 7 // what the client says breaks the rules of its protocol

// logServed tells of one that a filter has had, which keeps its own account of what was in it.
func (c *Conn) logServed() {
	if len(c.Listener.Logs) == 0 {
		return
	}
	var r access.Record
	c.CutShort(&r)
	c.describe(&r)
	r.BytesReceived, r.BytesSent = c.Conn.Carried()
	if r.Protocol = access.Protocol(c.spoken &^ malformed); c.spoken&malformed != 0 {
		r.Flags.Set(access.DownstreamProtocolError)
	}
	c.Tell(&r)
}

// describe fills in what is known of a connection that no filter has a record of.
func (c *Conn) describe(r *access.Record) {
	r.Start, r.Began = c.Worker.Loop.WallAt(c.Opened), access.Mark(c.Opened+1)
	c.Fill(r)
	if r.Dynamic.Inherit(&c.Dynamic); c.Chain == nil {
		r.ConnectionID = 0 // as in Envoy it was a socket until then
	}
}

// Tell tells the listener's logs of a connection that is over. A filter whose record is that of the connection, and not of one of
// its requests, does so before its own logs hear of it, as in Envoy; of others the listener knows when they release the connection.
func (c *Conn) Tell(r *access.Record) {
	c.told = true
	r.Type, r.Ended = access.NotSet, access.Mark(c.Worker.Loop.Now()+1)
	for _, l := range c.Listener.Logs {
		l.Log(c.Worker.Index, r)
	}
}
