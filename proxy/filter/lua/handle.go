package lua

import (
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/metadata"
	"github.com/mallamesh/malla/proxy/stream"

	lua "github.com/yuin/gopher-lua"
)

// handleMethods are those of request_handle and response_handle.
var handleMethods = map[string]method{
	"headers":    func(l *lua.LState, r *run, _ any) int { return push(l, r.ownFields()) },
	"body":       wholeBody,
	"bodyChunks": bodyChunks,
	"trailers":   trailersOf,
	"httpCall":   httpCall,
	"respond":    respondWith,

	"requestHeaders": func(l *lua.LState, r *run, _ any) int {
		if r.request {
			return push(l, r.ownFields())
		}
		return push(l, r.object(requestKind, &headerMap{m: &r.s.Request}))
	},
	"stats": func(l *lua.LState, r *run, _ any) int { return push(l, r.object(statsKind, nil)) },

	"metadata": func(l *lua.LState, r *run, _ any) int {
		return push(l, r.object(metadataKind, r.f.ofRoute(r.s)))
	},
	"filterContext": func(l *lua.LState, r *run, _ any) int {
		return push(l, r.object(contextKind, r.f.script.context))
	},
	"streamInfo": func(l *lua.LState, r *run, _ any) int { return push(l, r.object(infoKind, nil)) },
	"connection": func(l *lua.LState, r *run, _ any) int { return push(l, r.object(connectionKind, nil)) },
	"connectionStreamInfo": func(l *lua.LState, r *run, _ any) int {
		return push(l, r.object(connectionInfoKind, nil))
	},
	"virtualHost": func(l *lua.LState, r *run, _ any) int { return push(l, r.object(hostKind, metadata.VirtualHost)) },
	"route":       func(l *lua.LState, r *run, _ any) int { return push(l, r.object(routeKind, metadata.Route)) },

	"clearRouteCache": func(_ *lua.LState, r *run, _ any) int {
		if r.request {
			r.dirty = false
			r.s.Reroute()
		}
		return 0
	},
	"setUpstreamOverrideHost": overrideHost,

	"importPublicKey": importKey,
	"verifySignature": verify,
	"base64Escape": func(l *lua.LState, r *run, _ any) int {
		s := l.CheckString(2)
		raise(l, r.st.meter.steps(len(s)>>6))
		return pushText(l, base64.StdEncoding.EncodeToString([]byte(s)))
	},
	"base64Decode": base64Decode,
	"timestamp": func(l *lua.LState, _ *run, _ any) int {
		if l.OptInt(2, millisecond) != millisecond {
			l.RaiseError("timestamp format must be MILLISECOND.")
		}
		return push(l, lua.LNumber(time.Now().UnixMilli()))
	},
	"timestampString": func(l *lua.LState, _ *run, _ any) int {
		switch l.OptInt(2, millisecond) {
		case millisecond:
			return pushText(l, strconv.FormatInt(time.Now().UnixMilli(), 10))
		case microsecond:
			return pushText(l, strconv.FormatInt(time.Now().UnixMicro(), 10))
		}
		l.RaiseError("timestamp format must be MILLISECOND or MICROSECOND.")
		return 0
	},
}

// The resolutions of timestamps.
const (
	millisecond = iota
	microsecond
)

// logMethods are those of everything that a script holds.
var logMethods = map[string]method{
	"logTrace": logAt(Trace), "logDebug": logAt(Debug), "logInfo": logAt(Info), "logWarn": logAt(Warn), "logErr": logAt(Error), "logCritical": logAt(Critical),
}

// logCost is what a line costs in steps, written or not.
const logCost = 100

func logAt(level Level) method {
	return func(l *lua.LState, r *run, _ any) int {
		text := l.CheckString(2)
		raise(l, r.st.meter.steps(logCost))
		if r.lines >= maxLines {
			raise(l, errLines)
		}
		if r.f.config.Log(level, text) {
			raise(l, r.st.meter.make(len(text)))
			r.lines++
		}
		return 0
	}
}

// base64Decode returns what a text stands for, nil if it is no base64. It may have spaces, and end without its padding.
func base64Decode(l *lua.LState, r *run, _ any) int {
	s := l.CheckString(2)
	raise(l, r.st.meter.make(len(s)))
	if s = strings.Join(strings.Fields(s), ""); len(s)%4 == 0 {
		s = strings.TrimSuffix(strings.TrimSuffix(s, "="), "=")
	}
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return push(l, lua.LNil)
	}
	return push(l, lua.LString(b))
}

// canonicalName is where a route's metadata is looked for if there is none below the filter's name.
const canonicalName = "envoy.filters.http.lua"

// ofRoute is what the route's metadata says to the filter.
func (f *filter) ofRoute(s *stream.Stream) metadata.Struct { return f.said(s, metadata.Route) }

func (f *filter) said(s *stream.Stream, k metadata.Kind) metadata.Struct {
	set := s.Rec.Configured[k]
	fields, ok := set.Space(f.name)
	if !ok {
		fields, _ = set.Space(canonicalName)
	}
	return fields
}

// entryMethods are those of a route and of a virtual host.
var entryMethods = map[string]method{
	"metadata": func(l *lua.LState, r *run, v any) int {
		return push(l, r.fresh(metadataKind, r.f.said(r.s, v.(metadata.Kind))))
	},
}

// overrideHost asks for a host by its address.
func overrideHost(l *lua.LState, r *run, _ any) int {
	if !r.request {
		l.RaiseError("setUpstreamOverrideHost is for requests")
	}
	text, strict := l.CheckString(2), false
	if l.GetTop() > 2 {
		strict = l.CheckBool(3)
	}
	addr, ok := pipe.ParseAddrPort(text)
	if !ok {
		ip, ok := pipe.ParseAddr(text)
		if !ok {
			l.RaiseError("host is not a valid IP address")
		}
		addr = netip.AddrPortFrom(ip, 0)
	}
	r.s.Host = stream.HostWish{Addr: addr, Strict: strict}
	return 0
}

// wholeBody waits for the whole body and returns it.
func wholeBody(l *lua.LState, r *run, _ any) int {
	always := false
	if l.GetTop() > 1 {
		always = l.CheckBool(2)
	}
	body := r.lookup(bodyKind)
	switch {
	case body != nil:
		return push(l, body)
	case r.streamed && r.ended:
		l.RaiseError("cannot call body() after body has been streamed")
	case r.streamed || r.continued:
		l.RaiseError("cannot call body() after body streaming has started")
	}
	if !r.ended {
		r.wait(l, forBody)
	}
	r.collected = true
	if len(r.body) == 0 && !always {
		return 0
	}
	return push(l, r.object(bodyKind, nil))
}

// bodyMethods are those of a whole body.
var bodyMethods = map[string]method{
	"length": func(l *lua.LState, r *run, _ any) int { return push(l, lua.LNumber(len(r.body))) },
	"getBytes": func(l *lua.LState, r *run, _ any) int {
		return bytesOf(l, r, r.body)
	},
	"setBytes": func(l *lua.LState, r *run, _ any) int {
		if r.continued {
			l.RaiseError("the body can no longer be modified")
		}
		s := l.CheckString(2)
		r.body, r.replaced = []byte(s), true
		r.headers.SetNameCopy([]byte("content-length"), strconv.AppendInt(nil, int64(len(s)), 10))
		return push(l, lua.LNumber(len(s)))
	},
}

func bytesOf(l *lua.LState, r *run, b []byte) int {
	from, n := l.CheckInt(2), l.CheckInt(3)
	if from < 0 || n < 0 || n > len(b) || from > len(b)-n {
		l.RaiseError("index/length must be >= 0 and (index + length) must be <= buffer size")
	}
	raise(l, r.st.meter.make(n)) // before it is made
	return push(l, lua.LString(b[from:from+n]))
}

// bodyChunks goes through the pieces of a body as they come.
func bodyChunks(l *lua.LState, r *run, _ any) int {
	if r.streamed || r.collected {
		l.RaiseError("cannot call bodyChunks after body processing has begun")
	}
	return iterate(l, r, func(l *lua.LState) int {
		if r.ended {
			return 0
		}
		r.wait(l, forChunk)
		if r.piece == nil {
			return 0
		}
		return push(l, r.fresh(pieceKind, r.piece))
	})
}

// pieceMethods are those of a piece of a body. They work while it is there.
var pieceMethods = map[string]method{
	"length": func(l *lua.LState, r *run, v any) int {
		return push(l, lua.LNumber(len(current(l, r, v).Bytes)))
	},
	"getBytes": func(l *lua.LState, r *run, v any) int { return bytesOf(l, r, current(l, r, v).Bytes) },
	"setBytes": func(l *lua.LState, r *run, v any) int {
		b, s := current(l, r, v), l.CheckString(2)
		if len(s) != len(b.Bytes) && r.headers.LookupString("content-length") != nil {
			l.RaiseError("a piece of a body with a content-length cannot change its length: remove the field first")
		}
		b.Bytes = []byte(s)
		return push(l, lua.LNumber(len(s)))
	},
}

func current(l *lua.LState, r *run, v any) *stream.Buffer {
	b := v.(*stream.Buffer)
	if r.piece != b {
		l.RaiseError("object used outside of proper scope")
	}
	return b
}

// trailersOf waits for the trailers.
func trailersOf(l *lua.LState, r *run, _ any) int {
	if !r.ended && r.trailers == nil {
		r.wait(l, forTrailers)
	}
	if r.trailers == nil || r.trailers.Len() == 0 {
		return 0
	}
	return push(l, r.object(trailersKind, &headerMap{m: r.trailers}))
}

// respondWith answers the request.
func respondWith(l *lua.LState, r *run, _ any) int {
	switch {
	case !r.request:
		l.RaiseError("respond not currently supported in the response path")
	case r.continued:
		l.RaiseError("respond() cannot be called if headers have been continued")
	}
	a := &respond{}
	for _, h := range fieldsOf(l, r, l.CheckTable(2)) {
		switch h.name {
		case ":status":
			a.status, _ = strconv.Atoi(h.value)
		case "content-length": // is the body's
		default:
			a.headers = append(a.headers, h)
		}
	}
	if l.GetTop() > 2 && l.Get(3) != lua.LNil {
		a.body = l.CheckString(3)
	}
	if a.status < 200 || a.status > 599 {
		l.RaiseError(":status must be between 200-599")
	}
	r.response = a
	r.wait(l, toRespond)
	raise(l, errGone) // nobody resumes it
	return 0
}

// fieldsOf reads header fields from a table: a value is a text, or a table of texts.
func fieldsOf(l *lua.LState, r *run, t *lua.LTable) (out []field) {
	var first, rest []field
	t.ForEach(func(key, v lua.LValue) {
		name, ok := textOf(key)
		if !ok {
			l.RaiseError("the name of a header field is a %s, want a string", key.Type())
		}
		name = string(lower([]byte(name)))
		add := func(v lua.LValue) {
			text, ok := textOf(v)
			if !ok {
				l.RaiseError("the value of header field %q is a %s, want a string", name, v.Type())
			}
			checkField(l, []byte(name), []byte(text))
			raise(l, r.st.meter.make(len(name)+len(text)))
			if name[0] == ':' {
				first = append(first, field{name, text})
			} else {
				rest = append(rest, field{name, text})
			}
		}
		if list, ok := v.(*lua.LTable); ok {
			for i := 1; i <= list.Len(); i++ {
				add(list.RawGetInt(i))
			}
			return
		}
		add(v)
	})
	if len(first)+len(rest) > maxFields {
		l.RaiseError("%d header fields, want at most %d", len(first)+len(rest), maxFields)
	}
	return append(first, rest...)
}
