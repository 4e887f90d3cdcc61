//go:build linux

package script_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// serve answers on a port of this machine's loopback until the test ends.
func serve(t *testing.T, h http.Handler) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// say sends a text to a port of this machine and returns the first line that
// comes back.
func say(port int, text string, limit time.Duration) (string, error) {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), limit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	line := make([]byte, 0, 256)
	for one := make([]byte, 1); len(line) < cap(line); {
		if _, err := c.Read(one); err != nil {
			return string(line), fmt.Errorf("after %q: %w", line, err)
		}
		if line = append(line, one[0]); one[0] == '\n' {
			break
		}
	}
	return string(line), nil
}

// raw sends bytes to a port of this machine and returns everything that comes
// back until the end or the limit.
func raw(port int, request string, limit time.Duration) string {
	c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), limit)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(c, request); err != nil {
		return err.Error()
	}
	var all strings.Builder
	_, _ = io.Copy(&all, c)
	return all.String()
}
