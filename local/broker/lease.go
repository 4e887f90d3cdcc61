package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// A Lease is a port of the host, open for as long as the lease is.
type Lease struct {
	Published Published
	// Sockets are the listening ones: on Published.Host, and on Published.Host6
	// where the host has IPv6.
	Sockets []net.Listener

	conn net.Conn      // its end tells the broker
	lost chan struct{} // closed with conn
	once sync.Once
}

// Close gives the port back: if no replica has it, connections to it are refused from
// now on.
func (l *Lease) Close() error { return l.end(true) }

// Leave ends the lease and lets the port be: a replica has it too, or one comes that takes over.
func (l *Lease) Leave() error { return l.end(false) }

// Lost is closed when the lease is over: it was closed, or the port is to be had at
// another address, for who asks again.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

func (l *Lease) end(back bool) error {
	var errs []error
	l.once.Do(func() {
		for _, s := range l.Sockets {
			errs = append(errs, s.Close())
		}
		if back {
			_, _ = l.conn.Write([]byte{1}) // a broker that has gone needs no word
		}
		l.conn.Close()
	})
	return errors.Join(errs...)
}

// Lease opens a port of the host, or shares it with a replica that has it open.
func (c *Client) Lease(ctx context.Context, req ListenRequest) (*Lease, error) {
	r, files, conn, err := c.ask(ctx, request{Op: "listen", Owner: req.Owner, Port: req.Port}, true)
	if err == nil {
		err = r.err()
	}
	if err == nil && len(files) != 1 && len(files) != 2 {
		err = fmt.Errorf("the broker sent %d sockets, want 1 or 2", len(files))
	}
	l := &Lease{Published: r.Published, conn: conn, lost: make(chan struct{})}
	for _, f := range files {
		if err == nil {
			err = l.add(f)
		}
		f.Close()
	}
	if err != nil {
		if conn != nil {
			l.Close()
		}
		return nil, fmt.Errorf("open port %d on the host: %w", req.Port, err)
	}
	go func() { // the broker says nothing more
		defer close(l.lost)
		_, _ = io.Copy(io.Discard, conn)
	}()
	return l, nil
}

func (l *Lease) add(f *os.File) error {
	s, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("use the broker's socket: %w", err)
	}
	l.Sockets = append(l.Sockets, s)
	return nil
}

// Listen is Lease with one listener for all sockets; closing it gives the port
// back. It closes itself when the lease is lost.
func (c *Client) Listen(ctx context.Context, req ListenRequest) (net.Listener, Published, error) {
	l, err := c.Lease(ctx, req)
	if err != nil {
		return nil, Published{}, err
	}
	return newJoined(l), l.Published, nil
}

// joined accepts from all sockets of a lease.
type joined struct {
	*Lease
	accepted chan accepted
	done     chan struct{}
	over     sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

func newJoined(l *Lease) *joined {
	j := &joined{Lease: l, accepted: make(chan accepted), done: make(chan struct{})}
	for _, s := range l.Sockets {
		go j.from(s)
	}
	go func() {
		<-l.Lost()
		j.Close()
	}()
	return j
}

func (j *joined) from(s net.Listener) {
	for {
		c, err := s.Accept()
		select {
		case j.accepted <- accepted{c, err}:
		case <-j.done:
			if err == nil {
				c.Close()
			}
			return
		}
	}
}

// Accept implements net.Listener.
func (j *joined) Accept() (net.Conn, error) {
	select {
	case a := <-j.accepted:
		return a.conn, a.err
	case <-j.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (j *joined) Close() error {
	j.over.Do(func() { close(j.done) })
	return j.Lease.Close()
}

// Addr is that of the first socket.
func (j *joined) Addr() net.Addr { return j.Sockets[0].Addr() }
