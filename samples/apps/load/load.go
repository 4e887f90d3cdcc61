// Package load is a load client in the manner of fortio: it calls a URL at a
// steady rate over a fixed number of connections and prints how often each
// status came and how long the answers took.
//
// It is for the tasks of the samples and for tests that ask whether a request
// fails while something changes. It is no benchmark of a proxy: it measures with
// net/http.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

const usage = `usage: load [-c CONNECTIONS] [-qps RATE] [-n CALLS | -t DURATION] [-H 'NAME: VALUE']... URL
       load server`

// Main runs one of fortio's commands: load (which may be left out), curl, or
// server, which waits on PORT (8080) so that people can exec into its pod; it
// is also what happens without arguments.
func Main(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 && (strings.HasSuffix(args[0], "fortio") || args[0] == "load" && len(args) > 1 && args[1] == "load") {
		args = args[1:]
	}
	command := "load"
	if len(args) == 0 {
		command = "server"
	} else if args[0] == "load" || args[0] == "server" || args[0] == "curl" {
		command, args = args[0], args[1:]
	}
	if command == "server" {
		return serve.HTTP(ctx, serve.Port(env, "PORT", "8080"), echo())
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if command == "curl" {
		return o.once(ctx, stdout)
	}
	return o.run(ctx, stdout)
}

// echo answers with the body it got.
func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, http.MaxBytesReader(w, r.Body, 1<<20))
	})
}

type options struct {
	connections int
	qps         float64
	calls       int64
	duration    time.Duration
	timeout     time.Duration
	keepAlive   bool
	quiet       bool
	fail        bool
	method      string
	payload     string
	json        string
	percentiles []float64
	header      http.Header
	host        string
	url         string
}

// An exit is an error that chooses the exit code.
type exit struct {
	code int
	error
}

func (e exit) ExitCode() int { return e.code }

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{header: http.Header{"User-Agent": {"malla-load/1"}}}
	percentiles := ""
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprintln(stderr, usage); f.PrintDefaults() }
	f.IntVar(&o.connections, "c", 4, "connections, each with one request at a time")
	f.Float64Var(&o.qps, "qps", 8, "requests per second over all connections; 0: as many as possible")
	f.Int64Var(&o.calls, "n", 0, "stop after so many requests, not after -t")
	f.DurationVar(&o.duration, "t", 5*time.Second, "how long; 0: until stopped")
	f.DurationVar(&o.timeout, "timeout", 3*time.Second, "of one request")
	f.BoolVar(&o.keepAlive, "keepalive", true, "reuse connections")
	f.BoolVar(&o.quiet, "quiet", false, "print the result only")
	f.BoolVar(&o.fail, "fail", false, "exit with 1 unless every answer is 2xx")
	f.StringVar(&o.method, "X", "", "method (GET, with -payload POST)")
	f.StringVar(&o.payload, "payload", "", "body")
	f.StringVar(&o.json, "json", "", "write the result as JSON to this file; -: to standard output instead of text")
	f.StringVar(&percentiles, "p", "50,75,90,99,99.9", "percentiles to print")
	f.Func("H", "header field, \"Name: value\"; may be repeated", o.addHeader)
	// fortio's, whose values change nothing here.
	for _, name := range []string{"loglevel", "r", "labels"} {
		f.String(name, "", "accepted without effect")
	}
	for _, name := range []string{"a", "allow-initial-errors", "stdclient", "nocatchup", "uniform", "jitter", "L"} {
		f.Bool(name, false, "accepted without effect")
	}
	if err := f.Parse(args); err != nil {
		return nil, exit{2, errors.New("")} // flag has said it
	}
	if f.NArg() != 1 {
		return nil, exit{2, fmt.Errorf("found %d addresses, want one\n%s", f.NArg(), usage)}
	}
	o.url = f.Arg(0)
	if !strings.Contains(o.url, "://") {
		o.url = "http://" + o.url
	}
	if o.connections < 1 || o.connections > 10000 || o.qps < 0 || o.calls < 0 || o.duration < 0 {
		return nil, exit{2, fmt.Errorf("-c %d -qps %v -n %d -t %v: want 1 to 10000 connections and nothing below 0", o.connections, o.qps, o.calls, o.duration)}
	}
	for p := range strings.SplitSeq(percentiles, ",") {
		v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil || !(v > 0 && v <= 100) {
			return nil, exit{2, fmt.Errorf("-p: found %q, want numbers up to 100", p)}
		}
		o.percentiles = append(o.percentiles, v)
	}
	return o, nil
}

func (o *options) addHeader(s string) error {
	name, value, ok := strings.Cut(s, ":")
	if !ok || strings.TrimSpace(name) == "" {
		return fmt.Errorf("found %q, want \"Name: value\"", s)
	}
	if name, value = strings.TrimSpace(name), strings.TrimSpace(value); strings.EqualFold(name, "host") {
		o.host = value
	} else {
		o.header.Add(name, value)
	}
	return nil
}

// client returns the calls' client and a counter of the connections it makes.
func (o *options) client() (*http.Client, *atomic.Int64) {
	var sockets atomic.Int64
	dialer := &net.Dialer{Timeout: o.timeout}
	return &http.Client{
		Timeout: o.timeout,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				sockets.Add(1)
				return dialer.DialContext(ctx, network, addr)
			},
			MaxIdleConns:        o.connections,
			MaxIdleConnsPerHost: o.connections,
			DisableKeepAlives:   !o.keepAlive,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, &sockets
}

func (o *options) request(ctx context.Context) (*http.Request, error) {
	method := o.method
	if method == "" {
		method = http.MethodGet
		if o.payload != "" {
			method = http.MethodPost
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, o.url, bytes.NewReader([]byte(o.payload)))
	if err != nil {
		return nil, err
	}
	r.Header = o.header.Clone()
	if o.host != "" {
		r.Host = o.host
	}
	return r, nil
}

// run makes the load and prints the result.
func (o *options) run(ctx context.Context, stdout io.Writer) error {
	if _, err := o.request(ctx); err != nil {
		return exit{2, err}
	}
	client, sockets := o.client()
	call := func(ctx context.Context) (int, error) {
		r, err := o.request(ctx)
		if err != nil {
			return 0, err
		}
		res, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return res.StatusCode, err
	}
	if !o.quiet && o.json != "-" {
		fmt.Fprintf(stdout, "Calling %s over %d connections, %s\n", o.url, o.connections, o.plan())
	}
	result := drive(ctx, o, call)
	result.URL, result.Sockets = o.url, sockets.Load()
	if err := o.report(result, stdout); err != nil {
		return err
	}
	if o.fail && !result.allOK() {
		return exit{1, fmt.Errorf("%d of %d requests failed", result.Calls-result.ok(), result.Calls)}
	}
	return nil
}

func (o *options) plan() string {
	rate := "as fast as answers come"
	if o.qps > 0 {
		rate = fmt.Sprintf("%g requests per second", o.qps)
	}
	switch {
	case o.calls > 0:
		return fmt.Sprintf("%s, %d requests", rate, o.calls)
	case o.duration > 0:
		return fmt.Sprintf("%s, for %v", rate, o.duration)
	}
	return rate + ", until stopped"
}

func (o *options) report(r *result, stdout io.Writer) error {
	if o.json != "-" {
		r.print(stdout, o)
	}
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if o.json == "-" {
		_, err = stdout.Write(text)
		return err
	}
	return os.WriteFile(o.json, text, 0o644)
}

// once is "fortio curl": one request, its head and body printed.
func (o *options) once(ctx context.Context, stdout io.Writer) error {
	r, err := o.request(ctx)
	if err != nil {
		return exit{2, err}
	}
	client, _ := o.client()
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	fmt.Fprintf(stdout, "%s %s\r\n", res.Proto, res.Status)
	if err := res.Header.Write(stdout); err != nil {
		return err
	}
	fmt.Fprint(stdout, "\r\n")
	if _, err := io.Copy(stdout, res.Body); err != nil {
		return err
	}
	if res.StatusCode >= 400 {
		return exit{1, fmt.Errorf("%s answered %s", o.url, res.Status)}
	}
	return nil
}
