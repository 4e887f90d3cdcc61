package router

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mallamesh/malla/base/share"
	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/node/capture"
)

// outside accepts connections that leave the mesh and splices them to the
// broker's.
type outside struct {
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	idle   time.Duration
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	podOf  func(netip.Addr) string
	share  share.Share

	listeners []net.Listener // set before anything serves
}

func (r *Router) serveOutside() error {
	ctx, cancel := context.WithCancel(context.Background())
	o := &outside{idle: r.cfg.IdleTimeout, log: r.log, ctx: ctx, cancel: cancel, podOf: r.podOf, share: share.Share{All: r.cfg.MaxOutside, Each: r.cfg.MaxOutsidePod}}
	if r.cfg.Broker != nil {
		o.dial = r.cfg.Broker.Dial
	}
	r.out = o
	for _, at := range r.outsideAddrs() {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		o.listeners = append(o.listeners, l)
		go o.serve(l)
	}
	return nil
}

func (o *outside) close() {
	o.cancel()
	for _, l := range o.listeners {
		l.Close()
	}
}

func (o *outside) serve(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if o.ctx.Err() != nil {
				return
			}
			o.log.Warn("accept connection to the outside", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-o.ctx.Done():
			}
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		pod := o.podOf(from)
		if !o.share.Take(pod) {
			o.log.Warn("too many connections to the outside", "from", from, "limit of one pod", o.share.Each, "limit", o.share.All)
			reset(c)
			continue
		}
		go func() {
			defer o.share.Give(pod)
			o.connect(c)
		}()
	}
}

// reset tells the peer that its connection failed. It has been accepted, so
// this is all that can be told; applications see "connection reset".
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}

func (o *outside) connect(c *net.TCPConn) {
	dst, err := capture.OriginalDst(c)
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	if err != nil || dst == netip.AddrPortFrom(local.Addr().Unmap(), local.Port()) || o.dial == nil {
		reset(c) // called directly, or there is no way out
		return
	}
	conn, err := o.dial(o.ctx, "tcp", target(dst))
	if err != nil {
		o.log.Debug("connection to the outside", "from", c.RemoteAddr(), "to", dst, "error", err)
		reset(c)
		return
	}
	out, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		reset(c)
		return
	}
	stop := context.AfterFunc(o.ctx, func() { c.Close(); out.Close() })
	defer stop()
	splice(c, out, o.idle)
}

// target is what the broker dials for a destination.
func target(dst netip.AddrPort) string {
	for _, h := range HostIPs {
		if dst.Addr() == h {
			_, port, _ := net.SplitHostPort(dst.String())
			return net.JoinHostPort(broker.Loopback, port)
		}
	}
	return dst.String()
}

// splice copies both ways until both sides have ended, one fails, or neither
// has sent for idle, and up to half of it longer. An end is passed on as a half-close. The kernel moves the
// bytes (splice(2)), so a slow reader holds its writer.
func splice(a, b end, idle time.Duration) {
	defer a.Close()
	defer b.Close()
	act := &activity{last: time.Now()}
	errs := make(chan error, 2)
	go func() { errs <- pipe(a, b, idle, act) }()
	go func() { errs <- pipe(b, a, idle, act) }()
	for range 2 {
		if err := <-errs; err != nil {
			// One direction broke: the peer of the other hears a reset, not an orderly end.
			_ = a.SetLinger(0)
			_ = b.SetLinger(0)
			a.Close()
			b.Close()
		}
	}
}

// An end is a connection as splice needs it: *net.TCPConn.
type end interface {
	net.Conn
	io.ReaderFrom
	CloseWrite() error
	SetLinger(seconds int) error
}

// activity is when bytes last moved in either direction.
type activity struct {
	mu   sync.Mutex
	last time.Time
}

func (a *activity) now() {
	a.mu.Lock()
	a.last = time.Now()
	a.mu.Unlock()
}

func (a *activity) since() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.last)
}

// chunk is how much is moved at most between looks at the clock.
const chunk = 4 << 20

func pipe(dst, src end, idle time.Duration, act *activity) error {
	for {
		// Bytes are counted when a turn ends, so turns are shorter than what they measure, and what the
		// other direction has moved in this one is not counted yet.
		turn := idle / 4
		end := time.Now().Add(turn)
		_ = src.SetReadDeadline(end)
		_ = dst.SetWriteDeadline(end)
		n, err := dst.ReadFrom(&io.LimitedReader{R: src, N: chunk})
		if n > 0 {
			act.now()
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if act.since() >= idle+turn {
				return err
			}
		case err != nil:
			return err
		case n < chunk: // the end
			if err := dst.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
				return err
			}
			return nil
		}
	}
}
