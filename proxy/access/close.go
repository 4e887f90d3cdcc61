package access

import (
	"fmt"
	"strconv"
	"time"
)

// How a side of a stream has ended before its time. Remote is the client or the host, whichever's side it is; local is the
// proxy.
const (
	EndRemoteClosed  = "remote_closed"        // it has closed its connection
	EndRemoteReset   = "remote_reset"         // it has reset its connection
	EndRemoteStream  = "remote_reset_stream"  // it has reset the stream of HTTP/2
	EndRemoteGoAway  = "remote_goaway"        // it has left the stream out of those that it serves
	EndRemoteRefused = "remote_refused"       // it takes no connections there
	EndRemoteAlert   = "remote_alert"         // it has refused the proxy in TLS's words
	EndBroken        = "connection_broken"    // neither: the way between them, or what TLS makes of it
	EndLocalClosed   = "local_closed"         // the proxy has closed the connection
	EndLocalReset    = "local_reset"          // it has broken the stream off, and with HTTP/1.1 the connection
	EndLocalProtocol = "local_protocol_error" // it has, because the other side broke the rules of the protocol
)

// A Closing says how one side of a stream has ended before its time: who, at which byte of this stream, and how old the
// connection was. Of a stream that has ended as it should How is empty.
type Closing struct {
	How      string        // a constant of above
	Code     string        // what HTTP/2 said, if it did
	In, Out  uint64        // bytes of the stream that had come from that side and gone there
	Age      time.Duration // of the connection
	Requests uint64        // that it had carried, this one included; 0: it carries none
	During   string        // which part of its beginning it was still in; empty: it was made. In and Out are then all its bytes
}

// Parts of a connection's beginning.
const (
	DuringConnect   = "connect"
	DuringHandshake = "handshake"
)

// append writes such as remote_closed{received=0,sent=153,age=5003ms,requests=2}.
func (c *Closing) append(dst []byte) []byte {
	if c.How == "" {
		return dst
	}
	dst = append(append(dst, c.How...), "{received="...)
	dst = strconv.AppendUint(dst, c.In, 10)
	dst = strconv.AppendUint(append(dst, ",sent="...), c.Out, 10)
	dst = strconv.AppendInt(append(dst, ",age="...), c.Age.Milliseconds(), 10)
	dst = append(dst, "ms"...)
	if c.Requests > 0 {
		dst = strconv.AppendUint(append(dst, ",requests="...), c.Requests, 10)
	}
	if c.Code != "" {
		dst = append(append(dst, ",code="...), c.Code...)
	}
	if c.During != "" {
		dst = append(append(dst, ",during="...), c.During...)
	}
	return append(dst, '}')
}

// clientClosing is how the client's side has ended. Its numbers are those of the record.
func (r *Record) clientClosing() Closing {
	c := r.ClientEnd
	c.In, c.Out = r.Down.WireIn, r.Down.WireOut
	c.Age, _ = r.Ended.Sub(r.Opened)
	return c
}

// closing writes one side of a record.
func closing(of func(*Record) Closing) func(command) (*op, error) {
	return func(command) (*op, error) {
		return &op{write: func(_ *op, dst []byte, r *Record) ([]byte, bool) {
			c := of(r)
			return c.append(dst), c.How != ""
		}}, nil
	}
}

func hostClosing(r *Record) Closing { return r.HostEnd }

// responseDetails writes RESPONSE_CODE_DETAILS; white space would break up the line. With CLOSE it is followed
// by how both sides have ended, where that was before their time.
func responseDetails(c command) (*op, error) {
	o, sides := &op{strict: true}, false
	switch c.arg {
	case "":
	case "CLOSE":
		sides = true
	case "ALLOW_WHITESPACES,CLOSE":
		o.strict, sides = false, true
	case "ALLOW_WHITESPACES":
		o.strict = false
	default:
		return nil, fmt.Errorf("argument %q, want ALLOW_WHITESPACES, CLOSE, ALLOW_WHITESPACES,CLOSE, or none", c.arg)
	}
	o.write = func(o *op, dst []byte, r *Record) ([]byte, bool) {
		n := len(dst)
		dst = append(dst, r.CodeDetails...)
		if o.strict {
			for i := n; i < len(dst); i++ {
				switch dst[i] {
				case ' ', '\t', '\n', '\v', '\f', '\r':
					dst[i] = '_'
				}
			}
		}
		if sides {
			dst = appendSide(dst, n, "downstream_", r.clientClosing())
			dst = appendSide(dst, n, "upstream_", r.HostEnd)
		}
		return dst, len(dst) > n || r.Flags.Has(NoFilterConfigFound) // whose details are there, and are empty
	}
	return o, nil
}

// appendSide adds a side to the details that begin at a place.
func appendSide(dst []byte, from int, name string, c Closing) []byte {
	if c.How == "" {
		return dst
	}
	if len(dst) > from {
		dst = append(dst, ';')
	}
	return c.append(append(dst, name...))
}
