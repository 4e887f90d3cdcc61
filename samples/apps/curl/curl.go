// Package curl is a curl for machines that have none: HTTP/1.1 over TCP and TLS,
// with the options, output and exit codes of the commands that people copy from
// tutorials.
//
// What it does not know (HTTP/2 and 3, FTP and the other protocols, .netrc,
// proxies from the environment, the progress meter, most rare options) it
// refuses with curl's own exit codes, except for --http2, which curl itself
// takes as a wish.
package curl

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path"
	"strings"
	"time"
)

const curlVersion = "8.16.0"

// Exit codes of curl's manual.
const (
	exitProtocol    = 1
	exitUsage       = 2
	exitURL         = 3
	exitProxy       = 5
	exitResolve     = 6
	exitConnect     = 7
	exitPartial     = 18
	exitHTTP        = 22
	exitWrite       = 23
	exitRead        = 26
	exitTimeout     = 28
	exitTLS         = 35
	exitRedirects   = 47
	exitEmpty       = 52
	exitSend        = 55
	exitRecv        = 56
	exitCertificate = 60
	exitCAFile      = 77
)

// A failure is an error with curl's exit code.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

func failf(code int, format string, args ...any) *failure {
	return &failure{code, fmt.Sprintf(format, args...)}
}

// An exit has been reported already; only its code is left to say.
type exit int

func (exit) Error() string   { return "" }
func (e exit) ExitCode() int { return int(e) }

// Main runs curl. The image's containers also run "sleep infinity".
func Main(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch path.Base(args[0]) {
		case "sleep":
			return Sleep(ctx, args[1:], env, stdout, stderr)
		case "curl":
			args = args[1:]
		}
	}
	return run(ctx, args, os.Stdin, stdout, stderr)
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	out := bufio.NewWriter(stdout)
	defer out.Flush()
	o, err := parse(args, stdin)
	if err != nil {
		fmt.Fprintf(stderr, "curl: (%d) %s\n", err.code, err.text)
		if err.code == exitUsage {
			fmt.Fprintln(stderr, "curl: try 'curl --help' for more information")
		}
		return exit(err.code)
	}
	if o.version || o.help {
		o.about(out)
		return nil
	}
	s := &session{o: o, out: out, err: stderr}
	defer s.close()
	code := 0
	for i, u := range o.urls {
		if i > 0 && o.failEarly && code != 0 {
			break
		}
		if code = s.fetch(ctx, i, u); code != 0 && ctx.Err() != nil {
			break
		}
	}
	if err := s.saveCookies(); err != nil {
		fmt.Fprintf(stderr, "curl: cookies: %v\n", err)
	}
	if code != 0 {
		return exit(code)
	}
	return nil
}

func (o *options) about(w io.Writer) {
	if o.version {
		fmt.Fprintf(w, "curl %s (malla) built-in\nProtocols: http https\nFeatures: IPv6 Largefile SSL UnixSockets\n", curlVersion)
		return
	}
	fmt.Fprint(w, "Usage: curl [options...] <url>\nOptions of the curl that is built into malla:\n")
	for _, opt := range table {
		short := "    "
		if opt.short != 0 {
			short = "-" + string(opt.short) + ", "
		}
		value := ""
		if opt.value != nil {
			value = " <value>"
		}
		fmt.Fprintf(w, " %s--%s%s\n", short, opt.long, value)
	}
}

// A session keeps what the transfers of one command share.
type session struct {
	o       *options
	out     *bufio.Writer // standard output
	err     io.Writer
	conn    *conn // the last one, if it can be used again
	opened  int
	cookies []cookie
	loaded  bool
}

func (s *session) close() {
	if s.conn != nil {
		s.conn.Close()
	}
}

func (s *session) info(format string, args ...any) {
	if s.o.verbose {
		fmt.Fprintf(s.err, "* "+format+"\n", args...)
	}
}

// fetch transfers one URL, with retries, and returns the exit code.
func (s *session) fetch(ctx context.Context, i int, raw string) int {
	delay := time.Second
	for try := 0; ; try++ {
		t := &transfer{session: s, url: raw, index: i}
		err := t.run(ctx)
		if try < s.o.retry && s.o.transient(t, err) && ctx.Err() == nil {
			if s.o.retryDelay > 0 {
				delay = s.o.retryDelay
			}
			if !s.o.silent {
				fmt.Fprintf(s.err, "curl: Problem: %s. Will retry in %d seconds. %d retries left.\n", problem(t, err), int(delay.Seconds()), s.o.retry-try)
			}
			if !pause(ctx, delay) {
				return exitTimeout
			}
			delay = min(2*delay, 10*time.Minute)
			continue
		}
		code := 0
		if err != nil {
			code = err.code
			if !s.o.silent || s.o.showError {
				s.out.Flush()
				fmt.Fprintf(s.err, "curl: (%d) %s\n", err.code, err.text)
			}
		}
		t.writeOut(err)
		if s.out.Flush() != nil && code == 0 {
			code = exitWrite
		}
		return code
	}
}

// transient says after what --retry tries again.
func (o *options) transient(t *transfer, err *failure) bool {
	switch {
	case err != nil && o.retryAll:
		return true
	case err != nil && (err.code == exitTimeout || err.code == exitResolve):
		return true
	case err != nil && err.code == exitConnect:
		return o.retryRefused
	case err != nil && err.code != exitHTTP:
		return false
	}
	switch t.status {
	case 408, 429, 500, 502, 503, 504:
		return true
	}
	return false
}

func problem(t *transfer, err *failure) string {
	if err != nil && err.code != exitHTTP {
		return err.text
	}
	return fmt.Sprintf("HTTP error %d", t.status)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Sleep waits for the sum of its arguments, as the command of that name does, or
// until it is told to stop.
func Sleep(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	var total time.Duration
	forever := false
	if len(args) == 0 {
		return fmt.Errorf("sleep: found no duration, want a number, one with s, m, h or d, or infinity")
	}
	for _, a := range args {
		if a == "infinity" || a == "inf" {
			forever = true
			continue
		}
		unit := "s"
		if n := len(a) - 1; n > 0 && strings.ContainsRune("smhd", rune(a[n])) {
			a, unit = a[:n], a[n:]
		}
		scale := time.Duration(1)
		if unit == "d" {
			unit, scale = "h", 24
		}
		d, err := time.ParseDuration(a + unit)
		if err != nil || d < 0 {
			return fmt.Errorf("sleep: found %q, want a number, one with s, m, h or d, or infinity", a)
		}
		total += d * scale
	}
	if forever {
		<-ctx.Done()
		return nil
	}
	pause(ctx, total)
	return nil
}

// parseURL adds what people leave out.
func parseURL(raw string) (*url.URL, *failure) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	scheme, _, _ := strings.Cut(raw, "://")
	if s := strings.ToLower(scheme); s != "http" && s != "https" {
		return nil, failf(exitProtocol, "Protocol %q not supported", scheme)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return nil, failf(exitURL, "URL rejected: Malformed input to a URL function")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	return u, nil
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }
