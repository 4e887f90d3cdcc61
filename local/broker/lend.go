package broker

import (
	"context"
	"io"
	"net"
	"os"
)

// maxPodLeases bounds the ports of the host that one pod holds.
const maxPodLeases = 128

// Lend serves one pod's socket: its clients may open ports of the host, and
// nothing else, and always as owner, whatever they say of themselves. So a pod
// cannot take another's connections, nor dial past its sidecar, nor use up what
// others need. Ports are leased from the broker that from asks.
//
// last is asked when the pod leaves a port without giving it back: whether nobody is to come
// after it, so that the port is given back all the same.
//
// It returns when ctx is done or l fails, and closes l.
func Lend(ctx context.Context, l *net.UnixListener, from *Client, owner string, last func() bool) error {
	d := newDoor()
	d.room("listen", maxPodLeases, func(ctx context.Context, c *net.UnixConn, q request, gone <-chan word) {
		lend(ctx, c, from, request{Op: "listen", Owner: owner, Port: q.Port}, gone, last)
	})
	d.room("families", maxPodLeases, func(ctx context.Context, c *net.UnixConn, _ request, _ <-chan word) {
		v6, err := from.IPv6(ctx)
		if err != nil {
			_ = answer(c, failed(err))
			return
		}
		_ = answer(c, reply{IPv6: v6})
	})
	return d.serve(ctx, l)
}

// lend passes on a lease, as long as the pod's client and the broker keep it.
func lend(ctx context.Context, c *net.UnixConn, from *Client, q request, gone <-chan word, last func() bool) {
	r, files, lease, err := from.ask(ctx, q, true)
	if err != nil {
		_ = answer(c, failed(err))
		return
	}
	defer lease.Close()
	err = answer(c, r, files...)
	closeFiles(files)
	if err != nil || r.Error != "" {
		return
	}
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		_, _ = io.Copy(io.Discard, lease)
	}()
	select {
	case said := <-gone:
		if said.back || last() {
			_, _ = lease.Write([]byte{1})
		}
	case <-lost:
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
