package stream

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Channels of the protocol: the first byte of every message.
const (
	channelStdin  = 0
	channelStdout = 1
	channelStderr = 2
	channelError  = 3
	channelResize = 4
	channelClose  = 255 // v5: the next byte is a channel that has ended
)

// maxMessage bounds what one message may hold; kubectl sends at most 32 KiB.
const maxMessage = 1 << 20

var upgrader = websocket.Upgrader{
	Subprotocols:     []string{"v5.channel.k8s.io", "v4.channel.k8s.io"},
	HandshakeTimeout: 10 * time.Second,
	ReadBufferSize:   32<<10 + 64,
	WriteBufferSize:  32<<10 + 64,
}

func serveWebSocket(w http.ResponseWriter, r *http.Request, want Want, run Run) error {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil // the upgrader has answered
	}
	defer conn.Close()
	conn.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := &session{conn: conn, v5: conn.Subprotocol() == "v5.channel.k8s.io"}
	streams := Streams{TTY: want.TTY}
	if want.Stdin {
		s.stdin = newInput()
		streams.Stdin = s.stdin
	}
	if want.Stdout {
		streams.Stdout = channel{s, channelStdout}
	}
	if want.Stderr {
		streams.Stderr = channel{s, channelStderr}
	}
	if want.TTY {
		s.resize = make(chan Size, 1)
		streams.Resize = s.resize
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		defer cancel() // the client has gone
		s.read()
	}()
	stop := context.AfterFunc(ctx, func() { conn.NetConn().SetWriteDeadline(time.Now()) })
	err = run(ctx, streams)
	stop()
	s.send(channelError, result(err))
	s.close()
	conn.Close()
	<-reading
	return nil
}

// A session is one client's connection.
type session struct {
	conn   *websocket.Conn
	v5     bool
	stdin  *input
	resize chan Size

	mu sync.Mutex // guards writing to conn
}

// read takes the client's messages until it goes.
func (s *session) read() {
	defer func() {
		if s.stdin != nil {
			s.stdin.end()
		}
		if s.resize != nil {
			close(s.resize)
		}
	}()
	for {
		_, msg, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		if len(msg) == 0 {
			continue
		}
		switch body := msg[1:]; msg[0] {
		case channelStdin:
			if s.stdin != nil && len(body) > 0 {
				s.stdin.put(body)
			}
		case channelResize:
			s.resized(body)
		case channelClose:
			if s.v5 && len(body) == 1 && body[0] == channelStdin && s.stdin != nil {
				s.stdin.end()
			}
		}
	}
}

// resized hands on the latest size; one that nobody took yet is outdated.
func (s *session) resized(body []byte) {
	var size Size
	if s.resize == nil || json.Unmarshal(body, &size) != nil {
		return
	}
	select {
	case <-s.resize:
	default:
	}
	s.resize <- size
}

func (s *session) send(ch byte, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, err := s.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte{ch}); err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Close()
}

// close says goodbye and gives the client a moment to take it in.
func (s *session) close() {
	deadline := time.Now().Add(time.Second)
	s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), deadline)
	s.conn.SetReadDeadline(deadline)
	if s.stdin != nil {
		s.stdin.drop()
	}
}

// A channel is one of the command's outputs.
type channel struct {
	s  *session
	id byte
}

func (c channel) Write(p []byte) (int, error) {
	if err := c.s.send(c.id, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// inputLimit is how much of a client's input may wait for the command.
const inputLimit = 1 << 20

// An input holds what the client typed until the command reads it, so that the
// connection's pings are seen while a command does not read.
type input struct {
	mu    sync.Mutex // guards the fields below
	cond  sync.Cond
	buf   []byte
	ended bool
}

func newInput() *input {
	i := &input{}
	i.cond.L = &i.mu
	return i
}

func (i *input) put(p []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.buf) > inputLimit && !i.ended {
		i.cond.Wait()
	}
	if !i.ended {
		i.buf = append(i.buf, p...)
		i.cond.Broadcast()
	}
}

// end lets the reader see the rest, and then the end.
func (i *input) end() {
	i.mu.Lock()
	i.ended = true
	i.cond.Broadcast()
	i.mu.Unlock()
}

// drop ends without the rest: the command is over.
func (i *input) drop() {
	i.mu.Lock()
	i.ended, i.buf = true, nil
	i.cond.Broadcast()
	i.mu.Unlock()
}

func (i *input) Read(p []byte) (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(i.buf) == 0 && !i.ended {
		i.cond.Wait()
	}
	if len(i.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(p, i.buf)
	i.buf = i.buf[n:]
	if len(i.buf) == 0 {
		i.buf = nil
	}
	i.cond.Broadcast()
	return n, nil
}
