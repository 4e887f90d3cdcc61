package pool

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"syscall"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/tls"
)

// A Dialing makes one connection to a host: TCP, the header of the PROXY protocol, TLS.
//
// A host with several addresses is tried at one after another (RFC 8305, as Envoy does it): an
// attempt begins when the one before it has failed, or has had 300 ms. The first that is ready, its
// handshake included, is the connection; the others are closed. Only if all fail has dialing failed, with
// the reason of the last.
//
// Its owner embeds it, sets the exported fields and keeps the time (connect_timeout).
type Dialing struct {
	Worker    *Worker
	Cluster   *cluster.Cluster
	Host      *cluster.Host
	Origin    *Origin
	Name      string                      // that is asked for, where the TLS server name follows it
	Protocols func(own []string) []string // what is offered as ALPN, given the cluster's own list; nil: that
	Wish      *tls.Wish                   // nil: none
	Owner     Dialed

	// ID is the connection's number.
	ID uint64

	// Times are those of the attempt that came to something, from the first one's beginning.
	Times access.Dial

	// Meter counts bytes, those of attempts that come to nothing too.
	Meter *drive.Meter

	client *tls.Client
	next   int // of the host's addresses: the one to be tried next
	tries  []*try
	first  try // most hosts have one address
	room   [1]*try
	timer  drive.Timer
}

// Dialed is told what becomes of a [Dialing], once.
type Dialed interface {
	// OnDialed takes over the connection; secure is nil for plain text.
	OnDialed(c *drive.Conn, secure *access.TLS)
	OnDialFailed(l Loss)
}

// nextAttempt is how long an attempt has before the next address is tried as well. RFC 8305 (section 5)
// recommends 250 ms; Envoy waits for 300.
const nextAttempt = 300 * time.Millisecond

// Start begins.
func (d *Dialing) Start() {
	d.client, _ = d.Host.Transport.Socket.(*tls.Client)
	d.timer.Handler = d
	d.ID = d.Worker.ConnectionID()
	d.tries = d.room[:0]
	d.Times = access.Dial{Begun: d.mark()}
	d.try(&d.first)
}

func (d *Dialing) mark() access.Mark { return access.Mark(d.Worker.Loop.Now() + 1) }

// closing is what a log says of an attempt's end, or of that of the one that was begun last.
func (d *Dialing) closing(t *try, how, alert string) access.Closing {
	if t == nil {
		if len(d.tries) == 0 {
			return access.Closing{}
		}
		t = d.tries[len(d.tries)-1]
	}
	c := access.Closing{How: how, Code: alert, In: t.conn.BytesIn, Out: t.conn.BytesOut, During: access.DuringConnect}
	c.Age, _ = d.mark().Sub(d.Times.Begun)
	if t.at != 0 {
		c.During = access.DuringHandshake
	}
	return c
}

// TimedOut is what a log says of a dialing whose time is up.
func (d *Dialing) TimedOut() access.Closing { return d.closing(nil, access.EndLocalClosed, "") }

// Cancel gives up. The owner hears nothing more.
func (d *Dialing) Cancel() { d.end(nil) }

// try begins an attempt at the next address.
func (d *Dialing) try(t *try) {
	o := d.Worker.DialOptions(d.Cluster, d.Host.Address(d.next), d.Origin)
	d.next++
	d.Cluster.Stats.UpstreamCxTotal.Inc() // as in Envoy each attempt counts, and only the last as a failure
	t.d = d
	if t.conn = d.inside(o.Addr, t); t.conn == nil {
		t.conn = d.Worker.Loop.Dial(o, t)
	}
	t.conn.SetMark(int(d.Cluster.BufferLimit))
	t.conn.SetMeter(d.Meter)
	d.tries = append(d.tries, t)
	if d.more() {
		d.Worker.Loop.Schedule(&d.timer, nextAttempt)
	}
}

// more reports whether there is an address that was not tried.
func (d *Dialing) more() bool { return d.next < d.Host.Addresses() }

// OnTimer tries the next address beside those that have not answered.
func (d *Dialing) OnTimer(*drive.Timer) { d.try(&try{}) }

// end ends all attempts but one.
func (d *Dialing) end(but *try) {
	d.Worker.Loop.Cancel(&d.timer)
	for _, t := range d.tries {
		if t != but {
			t.close()
		}
	}
	d.tries = nil
}

// A try is an attempt at one address.
type try struct {
	d     *Dialing
	conn  *drive.Conn
	found tls.Found
	at    access.Mark // when it was connected
	over  bool
}

func (t *try) close() {
	t.over = true
	t.conn.Close()
}

// ready ends dialing with this attempt's connection.
func (t *try) ready(secure *access.TLS) {
	t.over = true
	if t.d.Times.Connected = t.at; secure != nil {
		t.d.Times.Secured = t.d.mark()
	}
	t.d.end(t)
	t.d.Owner.OnDialed(t.conn, secure)
}

// failed goes on with the next address, or with the attempts that are under way, or is the end.
func (t *try) failed(reset Reset, why, how, alert string) {
	if t.over {
		return
	}
	d := t.d
	l := Loss{Reset: reset, Why: why, End: d.closing(t, how, alert)}
	t.close()
	d.tries = slices.DeleteFunc(d.tries, func(o *try) bool { return o == t })
	if d.more() {
		d.Worker.Loop.Cancel(&d.timer)
		d.try(&try{})
	}
	if len(d.tries) == 0 {
		d.Owner.OnDialFailed(l)
	}
}

// OnConnect goes on with TLS, or is ready.
func (t *try) OnConnect(_ *drive.Conn, err error) {
	d := t.d
	if err != nil {
		reset, how := ConnectFailed, access.EndBroken
		if unready, ok := errors.AsType[*drive.UnreadyError](err); ok {
			reset, how = LocalConnectFailed, access.EndLocalClosed
			if unready.Bind() {
				d.Cluster.Stats.BindErrors.Inc()
			}
		} else if errors.Is(err, syscall.ECONNREFUSED) {
			how = access.EndRemoteRefused
		}
		t.failed(reset, ConnectError(err), how, "")
		return
	}
	t.at = d.mark()
	switch {
	case !d.Origin.Introduce(t.conn, d.Host, d.ID):
		t.failed(ConnectFailed, "", access.EndLocalClosed, "")
	case d.client == nil:
		t.ready(nil)
	case !d.client.Ready():
		t.failed(ConnectFailed, tls.ErrNotReady.Error(), access.EndLocalClosed, "")
	default:
		config := d.client.Config(d.Name, d.Host.Name, d.Wish, t.conn.Aside, &t.found)
		d.client.Context().LogKeys(config, t.conn.LocalAddr().Addr(), t.conn.RemoteAddr().Addr())
		switch {
		case d.Wish != nil && len(d.Wish.ALPN) > 0:
			config.NextProtos = d.Wish.ALPN
		case d.Protocols != nil:
			config.NextProtos = d.Protocols(config.NextProtos)
		}
		t.conn.StartTLS(false, config, d.Cluster.ConnectTimeout, t.secured)
	}
}

// secured goes on after the handshake.
func (t *try) secured(conn *drive.Conn, err error) {
	if t.over {
		return
	}
	d := t.d
	st := &d.Cluster.Stats.TLS
	if err != nil {
		tls.CountFailure(st, err)
		how, alert := howRefused(err)
		t.failed(ConnectFailed, tls.Reason(err), how, alert)
		return
	}
	tls.Count(st, conn.TLS(), t.found.Peer)
	secure := tls.Describe(conn.TLS(), &t.found)
	secure.SNI = d.client.ServerName(d.Name, d.Host.Name)
	if d.Wish != nil {
		secure.SNI = cmp.Or(d.Wish.ServerName, secure.SNI)
	}
	t.ready(secure)
}

// OnClose notices that the host has ended the connection in the middle of the handshake.
func (t *try) OnClose(_ *drive.Conn, err error) {
	why := "TLS_error:|connection closed during handshake:TLS_error_end"
	if err != nil {
		why = ConnectError(err)
	}
	how, alert := HowEnded(err)
	t.failed(ConnectFailed, why, how, alert)
}

// howRefused is who has ended a handshake: the host, by an alert or without a word, the way to it, or the proxy, which has not liked what came.
func howRefused(err error) (how, alert string) {
	_, system := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return access.EndRemoteClosed, ""
	case system, tls.Alert(err) != "":
		return HowEnded(err)
	}
	return access.EndLocalClosed, ""
}

// OnEnd is OnClose: half a handshake is none.
func (t *try) OnEnd(c *drive.Conn) { t.OnClose(c, nil) }

// OnData leaves bytes to whoever takes the connection over.
func (t *try) OnData(*drive.Conn, []byte) int { return 0 }

// OnDrained does nothing: only a header was written.
func (t *try) OnDrained(*drive.Conn) {}

// OnDeadline does nothing: none is set.
func (t *try) OnDeadline(*drive.Conn) {}
