package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	echoSize  = 100
	drainSize = 256 << 10
)

// serveStream is the backend of TCP. A client's first byte says what it wants:
// 's' bytes without end, anything else the same bytes back.
func serveStream(s helperSpec) (helperResult, error) {
	l, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return helperResult{}, err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return helperResult{}, err
		}
		go func() {
			defer c.Close()
			buf := make([]byte, drainSize)
			n, err := c.Read(buf)
			for err == nil && buf[0] == 's' {
				_, err = c.Write(buf)
			}
			for err == nil {
				if _, err = c.Write(buf[:n]); err == nil {
					n, err = c.Read(buf)
				}
			}
		}()
	}
}

// together runs do on as many connections as s says until its time is over, and
// adds up what they return.
func together(s helperSpec, do func(c net.Conn) (float64, error)) (helperResult, error) {
	var mu sync.Mutex
	var sum float64
	var errs []error
	var all sync.WaitGroup
	for range s.Conns {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			return helperResult{}, err
		}
		defer c.Close()
		all.Go(func() {
			n, err := do(c)
			mu.Lock()
			defer mu.Unlock()
			sum += n
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	all.Wait()
	return helperResult{Pieces: sum}, errors.Join(errs...)
}

func until(s helperSpec) time.Time {
	return time.Now().Add(time.Duration(s.Seconds * float64(time.Second)))
}

// drain counts megabytes.
func drain(s helperSpec) (helperResult, error) {
	end := until(s)
	return together(s, func(c net.Conn) (float64, error) {
		if _, err := c.Write([]byte{'s'}); err != nil {
			return 0, err
		}
		total, buf := 0, make([]byte, drainSize)
		for time.Now().Before(end) {
			n, err := c.Read(buf)
			total += n
			if err != nil {
				return 0, err
			}
		}
		return float64(total) / 1e6, nil
	})
}

// echo counts round trips.
func echo(s helperSpec) (helperResult, error) {
	end := until(s)
	return together(s, func(c net.Conn) (float64, error) {
		trips, buf := 0, make([]byte, echoSize)
		for time.Now().Before(end) {
			if _, err := c.Write(buf); err != nil {
				return 0, err
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				return 0, err
			}
			trips++
		}
		return float64(trips), nil
	})
}

// connect counts connections with a round trip each.
func connect(s helperSpec) (helperResult, error) {
	return again(s, func() error {
		c, err := net.DialTimeout("tcp", s.Addr, 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		buf := make([]byte, echoSize)
		if _, err = c.Write(buf); err == nil {
			_, err = io.ReadFull(c, buf)
		}
		return err
	})
}

// handshake counts handshakes that the server has finished: what it has said
// of a client it does not trust comes after the client's own end of them.
func handshake(s helperSpec) (helperResult, error) {
	config, err := clientTLS(s.Certificates, s.Curve)
	if err != nil {
		return helperResult{}, err
	}
	return again(s, func() error { return shakeOnce(s.Addr, config) })
}

// again does something over and over, as many times at once as there may be connections, and counts.
func again(s helperSpec, do func() error) (helperResult, error) {
	end := until(s)
	var done atomic.Int64
	var all sync.WaitGroup
	errs := make([]error, s.Conns)
	for i := range s.Conns {
		all.Go(func() {
			for errs[i] == nil && time.Now().Before(end) {
				if errs[i] = do(); errs[i] == nil {
					done.Add(1)
				}
			}
		})
	}
	all.Wait()
	return helperResult{Pieces: float64(done.Load())}, errors.Join(errs...)
}

func shakeOnce(addr string, config *tls.Config) error {
	raw, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil { // the server answers when it has read everything before
		return err
	}
	if err := raw.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	// What comes now says that the handshake is over: an end, or an answer to a request that was none.
	if _, err := c.Read(make([]byte, 1)); err != nil && (strings.Contains(err.Error(), "remote error") || errors.Is(err, os.ErrDeadlineExceeded)) {
		return err
	}
	return nil
}

// holdConnections opens connections, one request each, and keeps them until its
// input ends; one that the server has closed by then is an error.
func holdConnections(s helperSpec) (helperResult, error) {
	var config *tls.Config
	if s.Certificates != "" {
		var err error
		if config, err = clientTLS(s.Certificates, s.Curve); err != nil {
			return helperResult{}, err
		}
	}
	var held []net.Conn
	for range s.Conns {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			return helperResult{}, err
		}
		if config != nil {
			c = tls.Client(c, config)
		}
		if err := ask(c); err != nil {
			return helperResult{}, fmt.Errorf("connection %d: %w", len(held)+1, err)
		}
		held = append(held, c)
	}
	fmt.Print(standing)
	_, _ = io.Copy(io.Discard, os.Stdin)
	var all sync.WaitGroup
	errs := make([]error, len(held))
	for i, c := range held {
		all.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				errs[i] = fmt.Errorf("connection %d did not last: %v", i+1, err)
			}
		})
	}
	all.Wait()
	return helperResult{}, errors.Join(errs...)
}

const request = "GET " + smallPath + " HTTP/1.1\r\nHost: bench\r\n\r\n"

func ask(c net.Conn) error {
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	a, err := http.ReadResponse(bufio.NewReaderSize(c, 1024), nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return err
	}
	if a.StatusCode != http.StatusOK {
		return fmt.Errorf("found status %d, want 200", a.StatusCode)
	}
	return a.Body.Close()
}
