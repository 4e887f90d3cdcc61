package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// A helperSpec is what a helper process is told, in its environment.
type helperSpec struct {
	Kind, Addr   string
	Conns, Rate  int
	Seconds      float64
	Certificates string // their directory
	Curve        string
}

// A helperResult is what a client prints when it has done its work.
type helperResult struct {
	Pieces   float64
	P50, P99 float64 // milliseconds
}

// helpers are the clients and backends that this program is itself, so that
// client, proxy and backend are processes of their own.
var helpers = map[string]struct {
	does string
	run  func(helperSpec) (helperResult, error)
}{
	"web":       {"a backend of net/http", serveWeb},
	"stream":    {"a backend that sends without end, or what it gets", serveStream},
	"drain":     {"a client that reads what the backend sends without end", drain},
	"echo":      {"a client that sends 100 bytes and waits for them", echo},
	"connect":   {"a client that connects, sends 100 bytes, waits for them and hangs up", connect},
	"handshake": {"a client that shakes hands (TLS 1.3, no resumption) and hangs up", handshake},
	"pace":      {"an open-loop client, latencies from the moment a request was due", pace},
	"hold":      {"a client that keeps connections", holdConnections},
}

// envHelper makes this program a helper.
const envHelper = "MALLA_BENCH_HELPER"

// beHelper is the whole life of a helper process.
func beHelper(spec string) int {
	var s helperSpec
	err := json.Unmarshal([]byte(spec), &s)
	if err == nil {
		var r helperResult
		if r, err = helpers[s.Kind].run(s); err == nil {
			err = json.NewEncoder(os.Stdout).Encode(r)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %s: %v\n", s.Kind, err)
		return 1
	}
	return 0
}

// helperCommand is this program as a helper, not started yet.
func (b *bench) helperCommand(s helperSpec) *exec.Cmd {
	text, err := json.Marshal(s)
	if err != nil {
		b.Fatalf("%v", err)
	}
	cmd := exec.Command(b.self())
	cmd.Env = append(os.Environ(), envHelper+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// holding starts a client that keeps connections and returns when they stand.
// What it returns lets them go, and tells whether all of them were there until
// then.
func (b *bench) holding(s helperSpec) func() error {
	cmd := b.helperCommand(s)
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatalf("%v", err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatalf("%v", err)
	}
	wait := func() error {
		in.Close()
		return cmd.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != standing {
		b.Fatalf("connections to %s: %v, %v", s.Addr, err, wait())
	}
	return wait
}

// standing is what a client prints when it holds all connections.
const standing = "standing\n"
