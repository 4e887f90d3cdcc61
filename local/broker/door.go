package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mallamesh/malla/local/internal/fdmsg"
)

// A door takes connections, hears what each wants, and lets it do that. What
// lasts long and what many ask for have slots of their own, so that one of them
// cannot keep the others out.
type door struct {
	pending chan struct{} // connections that have not said what they want
	rooms   map[string]*room
}

// A room is one operation.
type room struct {
	slots chan struct{}
	do    operation
}

// An operation does what a client asks for. gone is closed when the client has gone; if it
// has said that it gives back what it got, a word is in it.
type operation func(ctx context.Context, c *net.UnixConn, q request, gone <-chan word)

// A word is all that a client says after its request: that it needs no more what it got.
type word struct{ back bool }

func newDoor() *door {
	return &door{pending: make(chan struct{}, maxPending), rooms: map[string]*room{}}
}

func (d *door) room(op string, size int, do operation) {
	d.rooms[op] = &room{make(chan struct{}, size), do}
}

// serve accepts until ctx is done or l fails; then it closes l.
func (d *door) serve(ctx context.Context, l *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			// Out of descriptors: they come back when requests end.
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
				select {
				case <-time.After(50 * time.Millisecond):
					continue
				case <-ctx.Done():
					return nil
				}
			}
			return fmt.Errorf("broker: accept: %w", err)
		}
		select {
		case d.pending <- struct{}{}:
			go func() {
				defer c.Close()
				d.admit(ctx, c)
			}()
		default:
			c.Close()
		}
	}
}

// admit serves one connection. Its client going away cancels what it asked for.
func (d *door) admit(ctx context.Context, c *net.UnixConn) {
	q, err := hear(c)
	<-d.pending
	if err != nil {
		return
	}
	r := d.rooms[q.Op]
	if r == nil {
		_ = answer(c, failed(fmt.Errorf("operation %q, want %s", q.Op, d.operations())))
		return
	}
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		_ = answer(c, failed(fmt.Errorf("%d requests of kind %q are under way already", cap(r.slots), q.Op)))
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	gone := make(chan word, 1)
	go func() { // the client says at most one byte more, so a read ends with it
		n, _ := io.Copy(io.Discard, c)
		gone <- word{back: n > 0}
		close(gone)
		cancel()
	}()
	r.do(ctx, c, q, gone)
}

func (d *door) operations() string {
	var names []string
	for op := range d.rooms {
		names = append(names, op)
	}
	slices.Sort(names)
	return strings.Join(names, " or ")
}

// hear reads a client's request.
func hear(c *net.UnixConn) (q request, err error) {
	c.SetDeadline(time.Now().Add(requestTimeout))
	files, err := fdmsg.Read(c, &q)
	for _, f := range files {
		f.Close()
	}
	c.SetDeadline(time.Time{})
	return q, err
}
