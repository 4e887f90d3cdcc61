package h2

import "encoding/binary"

// The settings (RFC 9113, section 6.5.2; RFC 8441).
const (
	settingTable      = 0x1
	settingPush       = 0x2
	settingStreams    = 0x3
	settingWindow     = 0x4
	settingFrame      = 0x5
	settingHeaderList = 0x6
	settingConnect    = 0x8
)

// peerSettings is what the peer has said of itself.
type peerSettings struct {
	streams uint32 // that it lets us open
	window  int    // initial send window of a stream
	frame   int    // what we send at most: never more than 16384, so that streams take turns
	connect bool   // it takes extended CONNECT
	known   bool   // its settings have come
}

// introduce writes what each end says first.
func (c *Conn) introduce() {
	o := &c.o
	p := c.scratch[:0]
	add := func(id uint16, v uint32) {
		p = binary.BigEndian.AppendUint16(p, id)
		p = binary.BigEndian.AppendUint32(p, v)
	}
	if !c.server {
		c.out.End(append(c.out.Room(len(preface)), preface...))
		c.count.appended += uint64(len(preface))
		add(settingPush, 0)
	}
	add(settingTable, uint32(o.DecoderTable))
	if c.server && o.AllowConnect {
		add(settingConnect, 1)
	}
	add(settingStreams, o.MaxConcurrentStreams)
	add(settingWindow, uint32(o.StreamWindow))
	if o.MaxFrameSize != minFrame {
		add(settingFrame, uint32(o.MaxFrameSize))
	}
	c.control(frameSettings, 0, 0, p)
	if more := o.ConnWindow - firstWindow; more > 0 {
		c.writeWindow(0, more)
		c.recvWindow += more
	}
}

// onSettings takes the peer's settings (section 6.5).
func (c *Conn) onSettings(flags byte, id uint32, p []byte) *Error {
	switch {
	case id != 0:
		return errStreamNotZero
	case flags&flagAck != 0 && len(p) != 0, len(p)%6 != 0:
		return errLength
	case flags&flagAck != 0:
		return c.onAck()
	}
	for ; len(p) > 0; p = p[6:] {
		if err := c.setting(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:])); err != nil {
			return err
		}
	}
	c.peer.known = true
	c.control(frameSettings, flagAck, 0, nil)
	c.h.OnSettings()
	c.pump()
	return nil
}

// onAck takes the peer's acknowledgement of our settings, which are sent once. Another one acknowledges nothing, and ends the connection
// as in Envoy: a peer could send them without end.
func (c *Conn) onAck() *Error {
	if c.acked {
		return errAck
	}
	c.acked = true
	c.dec.Allow(c.o.DecoderTable)
	return nil
}

func (c *Conn) setting(id uint16, v uint32) *Error {
	switch id {
	case settingTable:
		c.enc.Resize(int(min(v, uint32(c.o.EncoderTable))))
	case settingPush:
		if v > 1 || v == 1 && !c.server {
			return errSetting
		}
	case settingStreams:
		c.peer.streams = v
	case settingWindow:
		if v > maxWindow {
			return errWindowSetting
		}
		return c.moveWindows(int(v) - c.peer.window)
	case settingFrame:
		if v < minFrame || v > 1<<24-1 {
			return errSetting
		}
	case settingConnect:
		if v > 1 || v == 0 && c.peer.connect {
			return errSetting
		}
		c.peer.connect = v == 1
	}
	return nil
}

// moveWindows changes the send windows of all streams, perhaps below zero (section 6.9.2).
func (c *Conn) moveWindows(by int) *Error {
	c.peer.window += by
	for _, s := range c.table.buckets {
		for ; s != nil; s = s.next {
			s.sendWindow += by
			if s.sendWindow > maxWindow {
				return errWindow
			}
			c.enqueue(s)
		}
	}
	return nil
}
