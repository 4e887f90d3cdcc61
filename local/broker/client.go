package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/mallamesh/malla/local/internal/fdmsg"
	"github.com/miekg/dns"
)

// A Client asks the broker at a Unix socket. It is safe for concurrent use and
// holds nothing open between requests.
type Client struct{ path string }

// NewClient returns the client of the broker's socket at path. It does not connect.
func NewClient(path string) *Client { return &Client{path: path} }

// FromEnv returns the client of the broker that EnvSocket names, or nil.
func FromEnv(getenv func(string) string) *Client {
	if p := getenv(EnvSocket); p != "" {
		return NewClient(p)
	}
	return nil
}

// Dial connects from the host's network. network is "tcp"; addr is host:port,
// where the host may be a name, resolved on the host, or Loopback. Errors wrap
// the system's (syscall.ECONNREFUSED).
func (c *Client) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	r, files, _, err := c.ask(ctx, request{Op: "dial", Network: network, Addr: addr}, false)
	if err != nil {
		return nil, fmt.Errorf("dial %s on the host: %w", addr, err)
	}
	if err := r.err(); err != nil {
		return nil, fmt.Errorf("dial %s on the host: %w", addr, err)
	}
	f, err := one(files)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use the broker's socket: %w", err)
	}
	return conn, nil
}

// IPv6 reports whether ports are opened on the host's ::1 as well.
func (c *Client) IPv6(ctx context.Context) (bool, error) {
	r, files, _, err := c.ask(ctx, request{Op: "families"}, false)
	closeFiles(files)
	if err == nil {
		err = r.err()
	}
	return r.IPv6, err
}

// Resolve asks the host's resolvers one DNS question.
func (c *Client) Resolve(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	wire, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("encode DNS question: %w", err)
	}
	r, _, _, err := c.ask(ctx, request{Op: "resolve", Query: wire}, false)
	if err == nil {
		err = r.err()
	}
	if err != nil {
		return nil, fmt.Errorf("resolve on the host: %w", err)
	}
	a := new(dns.Msg)
	if err := a.Unpack(r.Answer); err != nil {
		return nil, fmt.Errorf("decode DNS answer: %w", err)
	}
	return a, nil
}

// ask sends a request and reads the reply. The connection is returned open if
// keep is set and there was a reply.
func (c *Client) ask(ctx context.Context, q request, keep bool) (r reply, files []*os.File, conn *net.UnixConn, err error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return r, nil, nil, fmt.Errorf("reach the broker: %w", err)
	}
	conn = nc.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = fdmsg.Write(conn, q)
	if err == nil {
		files, err = fdmsg.Read(conn, &r)
	}
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err != nil {
		closeFiles(files)
		conn.Close()
		return r, nil, nil, fmt.Errorf("ask the broker: %w", err)
	}
	if !keep {
		conn.Close()
		conn = nil
	}
	return r, files, conn, nil
}

func one(files []*os.File) (*os.File, error) {
	if len(files) == 1 {
		return files[0], nil
	}
	closeFiles(files)
	return nil, fmt.Errorf("the broker sent %d sockets, want 1", len(files))
}
