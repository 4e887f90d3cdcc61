// Package tcpecho is Istio's tcp-echo-server: it answers each line that it
// reads with a prefix and the line. With GREETING it says that first, as servers of SMTP and MySQL do, which the
// original cannot.
package tcpecho

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// Main takes the image's two arguments: the ports, separated by commas
// (default 9000), and the prefix (default "hello").
func Main(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	ports, prefix, err := parse(args)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, port := range ports {
		l, err := serve.Listen(port)
		if err != nil {
			return err
		}
		group.Go(func() error {
			return serve.TCP(ctx, l, func(_ context.Context, c net.Conn) {
				if greeting := env("GREETING"); greeting != "" {
					if _, err := fmt.Fprintln(c, greeting); err != nil {
						return
					}
				}
				echo(c, prefix)
			})
		})
	}
	return group.Wait()
}

func parse(args []string) (ports []string, prefix string, err error) {
	list, prefix := "9000", "hello"
	switch len(args) {
	case 2:
		list, prefix = args[0], args[1]
	case 1:
		list = args[0]
	case 0:
	default:
		return nil, "", fmt.Errorf("arguments %q: found %d, want PORT[,PORT...] PREFIX", args, len(args))
	}
	for port := range strings.SplitSeq(list, ",") {
		port = strings.TrimSpace(port)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, "", fmt.Errorf("argument %q: found port %q, want a number from 1 to 65535", list, port)
		}
		ports = append(ports, port)
	}
	return ports, prefix, nil
}

// maxLine bounds what is kept of a peer that never ends its line.
const maxLine = 1 << 20

// echo answers until the peer closes its side. A last line without an end is
// echoed too, as the original does not: nothing sent is lost.
func echo(c net.Conn, prefix string) {
	r := bufio.NewScanner(c)
	r.Buffer(nil, maxLine)
	r.Split(lines)
	w := bufio.NewWriter(c)
	for r.Scan() {
		w.WriteString(prefix)
		w.WriteByte(' ')
		w.Write(r.Bytes())
		if w.Flush() != nil {
			return
		}
	}
}

// lines splits after each newline and keeps it.
func lines(data []byte, atEOF bool) (int, []byte, error) {
	for i, b := range data {
		if b == '\n' {
			return i + 1, data[:i+1], nil
		}
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
