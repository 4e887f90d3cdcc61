package call

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
)

var (
	post        = []byte("POST")
	httpScheme  = []byte("http")
	trailers    = []byte("trailers")
	grpcType    = []byte("application/grpc")
	yes         = []byte("true")
	okStatus    = []byte("200")
	grpcSuccess = []byte("0")
)

// GRPC makes the request a call of a gRPC method. What was in Body, behind [MessageAt] bytes, is its message.
// authority and path are borrowed.
func (c *Call) GRPC(authority, path []byte, timeout time.Duration) {
	m := &c.Request
	m.Reset()
	m.Add(header.Method, post)
	m.Add(header.Path, path)
	m.Add(header.Authority, authority)
	m.Add(header.Scheme, httpScheme)
	m.Add(header.TE, trailers)
	if timeout > 0 {
		var text [24]byte
		ms := strconv.AppendInt(text[:0], timeout.Milliseconds(), 10)
		m.AddCopy(header.XEnvoyExpectedRqTimeoutMs, ms)
		m.AddCopy(header.GrpcTimeout, append(ms, 'm'))
	}
	m.Add(header.ContentType, grpcType)
	m.Add(header.XEnvoyInternal, yes)
	var ip [46]byte
	m.AddCopy(header.XForwardedFor, pool.LocalIP().AppendTo(ip[:0]))
	c.Body[0] = 0
	binary.BigEndian.PutUint32(c.Body[1:], uint32(len(c.Body)-MessageAt))
}

// MessageAt is where in a body its first message begins (gRPC over HTTP/2, "Length-Prefixed-Message").
const MessageAt = 5

// Message returns the message that a gRPC call was answered with, and whether it was answered well.
func (c *Call) Message() ([]byte, bool) {
	if !c.OK || c.Headers == nil || string(c.Headers.Get(header.Status)) != string(okStatus) {
		return nil, false
	}
	status := c.Headers
	if c.Trailers != nil {
		status = c.Trailers
	}
	if string(status.Get(header.GrpcStatus)) != string(grpcSuccess) {
		return nil, false
	}
	b := c.Answer
	if len(b) < MessageAt || b[0] != 0 || int(binary.BigEndian.Uint32(b[1:])) != len(b)-MessageAt {
		return nil, false
	}
	return b[MessageAt:], true
}
