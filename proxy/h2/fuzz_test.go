package h2

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mallamesh/malla/proxy/header"
)

// seeds are conversations that reach most states.
func seeds(f *testing.F) {
	var b, block bytes.Buffer
	e := hpack.NewEncoder(&block)
	fr := http2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	fields := func(names ...string) []byte {
		block.Reset()
		for i := 0; i < len(names); i += 2 {
			e.WriteField(hpack.HeaderField{Name: names[i], Value: names[i+1]})
		}
		return block.Bytes()
	}
	request := func(id uint32, end bool) {
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, EndStream: end,
			BlockFragment: fields(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a", "x", "y")})
	}
	seed := func() {
		f.Add(append([]byte(nil), b.Bytes()...), true)
		f.Add(append([]byte(nil), b.Bytes()...), false)
		b.Reset()
	}
	request(1, false)
	fr.WriteData(1, false, []byte("hello"))
	fr.WriteDataPadded(1, true, []byte("hello"), make([]byte, 7))
	request(3, true)
	fr.WriteWindowUpdate(3, 100)
	fr.WriteRSTStream(3, http2.ErrCodeCancel)
	seed()
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: false, BlockFragment: fields(":status", "200"), Priority: http2.PriorityParam{Weight: 3}, PadLength: 3})
	fr.WriteContinuation(1, true, fields("a", "b"))
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: fields("t", "u")})
	seed()
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}, http2.Setting{ID: http2.SettingHeaderTableSize})
	fr.WritePing(false, [8]byte{1})
	fr.WritePriority(5, http2.PriorityParam{StreamDep: 1})
	fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	request(5, false)
	fr.WriteWindowUpdate(0, 1)
	seed()
	for _, bad := range mistakes {
		e = hpack.NewEncoder(&block) // each is a connection's beginning
		request(1, false)
		b.WriteString(bad)
		seed()
	}
	fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
	fr.WriteRawFrame(0x77, 3, 9, []byte("what"))
	seed()
}

// mistakes are frames that are wrong, one of each kind: they are played where nobody looks for more of them.
var mistakes = []string{
	"\x00\x00\x03\x00\x08\x00\x00\x00\x01\x03ab",                                       // padding as long as what is left, and one more
	"\x00\x00\x03\x00\x08\x00\x00\x00\x01\x02ab",                                       // nothing but padding
	"\x00\x00\x00\x00\x08\x00\x00\x00\x01",                                             // no room for its length
	"\x00\x00\x02\x01\x2c\x00\x00\x00\x03\x00\x00",                                     // nor for a priority
	"\x00\x00\x00\x09\x04\x00\x00\x00\x01",                                             // CONTINUATION of nothing
	"\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82\x00\x00\x00\x00\x01\x00\x00\x00\x01",     // DATA in the middle of headers
	"\x00\x00\x01\x01\x00\x00\x00\x00\x03\x82\x00\x00\x01\x09\x04\x00\x00\x00\x05\x86", // CONTINUATION of another stream
	"\x00\x00\x01\x01\x05\x00\x00\x00\x02\x82",                                         // a number of the other side's
	"\x00\x00\x01\x01\x05\x00\x00\x00\x00\x82",                                         // HEADERS of the connection
	"\x00\x00\x00\x00\x01\x00\x00\x00\x00",                                             // DATA of it
	"\x00\x00\x00\x00\x01\x00\x00\x00\x63",                                             // and of a stream that there is not
	"\x00\x00\x05\x02\x00\x00\x00\x00\x05\x00\x00\x00\x05\x10",                         // depends on itself
	"\x00\x00\x04\x02\x00\x00\x00\x00\x05\x00\x00\x00\x05",                             // a length that none has
	"\x00\x00\x03\x03\x00\x00\x00\x00\x01\x00\x00\x08",                                 // the same, of RST_STREAM
	"\x00\x00\x04\x03\x00\x00\x00\x00\x63\x00\x00\x00\x08",                             // of a stream that there is not
	"\x00\x00\x05\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00",                         // of SETTINGS
	"\x00\x00\x06\x04\x01\x00\x00\x00\x00\x00\x04\x00\x00\x00\x01",                     // an ACK that says something
	"\x00\x00\x06\x04\x00\x00\x00\x00\x01\x00\x04\x00\x00\x00\x01",                     // of a stream
	"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x80\x00\x00\x00",                     // a window that there is not
	"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00",                     // frames of no length
	"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x02",                     // neither on nor off
	"\x00\x00\x07\x06\x00\x00\x00\x00\x00sevenby",                                      // of PING
	"\x00\x00\x08\x06\x00\x00\x00\x00\x01eight by",                                     // of a stream
	"\x00\x00\x07\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00",                 // of GOAWAY
	"\x00\x00\x03\x08\x00\x00\x00\x00\x01\x00\x00\x01",                                 // of WINDOW_UPDATE
	"\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x00",                             // by nothing
	"\x00\x00\x04\x08\x00\x00\x00\x00\x01\x7f\xff\xff\xff",                             // by too much
	"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff",                             // the same, of the connection
	"\x00\x40\x01\x00\x00\x00\x00\x00\x01",                                             // longer than may be
	"\xff\xff\xff\x01\x05\x00\x00\x00\x03",                                             // as long as can be said
	"\x00\x00\x01\x01\x05\x00\x00\x00\x03\xff",                                         // a header block that breaks off
	"\x00\x00\x02\x01\x05\x00\x00\x00\x03\x82\xfe",                                     // and one of what there is not
}

// ready returns a side that has the settings of its peer; a client has two requests under way.
func ready(server bool) *side {
	d := newSide(server, &Options{StreamErrors: true, AllowConnect: true, StreamWindow: 70000, ConnWindow: 100000})
	d.quiet = true
	if server {
		d.c.h = echoSide{d}
		d.input([]byte(preface))
	}
	d.input([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00"))
	for range 2 {
		if f := (&flow{d: d}); !server {
			f.s = d.c.Open(f, &f.headers, &f.trailers)
			f.s.SendHeaders(postMap, false)
			f.s.SendData(whole(100), false)
		}
	}
	return d
}

// FuzzBytes feeds whatever comes, in pieces and at once: nothing panics, what is held stays within the
// windows and limits, and pieces make no difference.
func FuzzBytes(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in []byte, server bool) {
		d, pieces := ready(server), ready(server)
		_, err := d.c.Feed(in)
		d.c.Deliver()
		var have []byte
		var perr error
		for i := 0; i < len(in) && perr == nil; i += 7 {
			have = append(have, in[i:min(i+7, len(in))]...)
			var n int
			n, perr = pieces.c.Feed(have)
			have = append(have[:0], have[n:]...)
			pieces.c.Deliver()
		}
		if (err == nil) != (perr == nil) || err != nil && err.Error() != perr.Error() {
			t.Fatalf("at once: %v; in pieces: %v", err, perr)
		}
		if !bytes.Equal(d.out.b, pieces.out.b) {
			t.Fatalf("at once we write %q, in pieces %q", d.out.b, pieces.out.b)
		}
		held := cap(d.c.block)
		for _, s := range d.c.table.buckets {
			for ; s != nil; s = s.next {
				held += s.input.size + len(s.pending)
			}
		}
		if limit := 100000 + 2*d.c.o.MaxHeaderBytes + 2*minFrame; held > limit {
			t.Errorf("%d bytes are held, want at most %d", held, limit)
		}
		if n := d.c.count.control[0] + d.c.count.control[1]; n > d.c.o.Limits.OutboundControlFrames+70 {
			t.Errorf("%d control frames wait", n)
		}
		d.c.Close()
		if d.c.Active() != 0 {
			t.Errorf("%d streams survive the connection", d.c.Active())
		}
	})
}

// FuzzFraming compares frames with golang.org/x/net's: what one refuses as a frame, the other does.
func FuzzFraming(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in []byte, server bool) {
		d := ready(server)
		d.out.b = d.out.b[:0]
		peer := http2.NewFramer(io.Discard, bytes.NewReader(in))
		peer.SetMaxReadFrameSize(minFrame)
		for len(in) >= frameHeader {
			n := frameHeader + int(in[0])<<16 + int(in[1])<<8 + int(in[2])
			if n > len(in) && n <= frameHeader+minFrame {
				return
			}
			frame := in[:min(n, len(in))]
			in = in[len(frame):]
			_, theirs := peer.ReadFrame()
			_, err := d.c.Feed(frame)
			ours := d.c.Err()
			d.out.b = append([]byte(nil), d.out.b...)
			switch {
			case frame[3] == 0x10: // PRIORITY_UPDATE (RFC 9218), which the peer knows and we ignore
				return
			case theirs != nil && ours == nil && !bytes.Contains(d.out.b, []byte("\x00\x00\x04\x03")):
				if _, late := theirs.(http2.StreamError); late {
					return // a stream that has ended here: the frame is ignored
				}
				t.Fatalf("%x: the peer says %v, we nothing", frame, theirs)
			case theirs == nil && ours != nil:
				switch ours {
				case errLength, errPadding, errStreamZero, errStreamNotZero, errFrameSize, errContinuation:
					t.Fatalf("%x: we say %v, the peer nothing", frame, err)
				}
				return
			case theirs != nil:
				return
			}
			d.out.b = d.out.b[:0]
		}
	})
}

// FuzzRequest looks for requests that get through and that we could not send on: whatever the server
// takes, our client encodes so that another server takes it as the same.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x82\x86\x84\x41\x01a"), true)
	f.Add([]byte("\x83\x86\x84\x41\x01a\x40\x06cookie\x03a=b\x60\x03c=d\x00\x04host\x01b"), false)
	f.Fuzz(func(t *testing.T, block []byte, end bool) {
		if len(block) > minFrame {
			return
		}
		first := newPair(&Options{}, &Options{StreamErrors: true})
		flags := byte(flagEndHeaders)
		if end {
			flags |= flagEndStream
		}
		first.server.c.Feed(append(appendFrame(nil, len(block), frameHeaders, flags, 1), block...))
		if len(first.server.order) == 0 || !first.server.order[0].began {
			return
		}
		in := &first.server.order[0].headers
		second := newPair(&Options{}, &Options{StreamErrors: true})
		c := second.open()
		c.s.SendHeaders(in, end)
		settle(second.client, second.server)
		if len(second.server.order) == 0 || !second.server.order[0].began {
			t.Fatalf("%s is taken and cannot be sent on", fieldText(in))
		}
		out := &second.server.order[0].headers
		for i := range in.Len() {
			f := in.At(i)
			if f.Token != header.Host && string(out.Lookup(f.Name)) != string(in.Lookup(f.Name)) {
				t.Fatalf("%q arrives as %q, want %q", f.Name, out.Lookup(f.Name), in.Lookup(f.Name))
			}
		}
	})
}
