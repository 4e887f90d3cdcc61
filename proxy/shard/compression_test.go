package shard

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/mallamesh/malla/proxy/coding"
	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/filter/buffer"
	"github.com/mallamesh/malla/proxy/filter/compressor"
	"github.com/mallamesh/malla/proxy/filter/decompressor"
	"github.com/mallamesh/malla/proxy/filter/router"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

func zipper() *compressor.Config {
	d := compressor.Direction{Enabled: true, Minimum: 30, Types: compressor.Default(), Counters: new(stats.Compressor)}
	return &compressor.Config{Encoding: coding.NewGzip(coding.DefaultLevel, 0), Request: d, Response: compressor.ResponseDirection{Direction: d}, Headers: new(stats.CompressorChoice)}
}

func unzipper() *decompressor.Config {
	d := decompressor.Direction{Enabled: true, Counters: new(stats.Decompressor)}
	return &decompressor.Config{Decoding: coding.NewGunzip(100), Library: "text", Request: d, Response: d, Failed: func(error) {}}
}

// A worker has one stock of memory for bodies, whatever configurations come: those in progress hold a part of it.
func TestConfigurationsShareOneStock(t *testing.T) {
	b := filtered(t, compressor.New("c", zipper()), nil)
	stock := func() any { return b.Worker.Local(coding.StockKey{}, func() any { return coding.NewStock() }) }
	before := stock()
	if err := b.Apply(b.rt); err != nil {
		t.Fatal(err)
	}
	if stock() != before {
		t.Error("a configuration brought a stock of its own")
	}
}

// What a server sends in pieces reaches the client as it comes, compressed.
func TestCompressedPiecesGoAtOnce(t *testing.T) {
	b := filtered(t, compressor.New("c", zipper()), nil)
	var server *drive.Pipe
	b.Handle(app1, func(p *drive.Pipe) { server = p })
	p := b.dial()
	p.WriteString(get("/", "Accept-Encoding: gzip"))
	b.Step()
	server.WriteString("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst \r\n")
	b.Step()
	got := p.Take()
	read := func() string {
		resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(z)
		return string(body)
	}
	if body := read(); body != "first " {
		t.Errorf("after the first piece there is %q", body)
	}
	server.WriteString("4\r\nlast\r\n0\r\n\r\n")
	b.Step()
	got += p.Take()
	if body := read(); body != "first last" {
		t.Errorf("in the end there is %q", body)
	}
}

// A filter that collects a request does so with what filters before it have made of the body.
func TestDecompressedRequestIsCollected(t *testing.T) {
	b := filtered(t, decompressor.New("d", unzipper()), nil)
	b.config.Filters = []stream.Factory{decompressor.New("d", unzipper()), buffer.New("b", 1000), router.New(router.Config{})}
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	io.WriteString(z, "what the client says")
	z.Close()
	got := b.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(body.Len()) + "\r\n\r\n" + body.String())
	has(t, got, "HTTP/1.1 200 OK")
	if len(b.requests) != 1 || !strings.Contains(b.requests[0], "what the client says") || strings.Contains(b.requests[0], "content-encoding") {
		t.Errorf("the application got %q", b.requests)
	}
}

// A response that is no gzip is broken off, and the connection with it.
func TestResponseThatIsNoGzip(t *testing.T) {
	b := filtered(t, decompressor.New("d", unzipper()), nil)
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 11\r\n\r\nnot gzip at")
		}
	})
	if got := b.do(get("/")); strings.HasSuffix(got, "0\r\n\r\n") {
		t.Errorf("the response looks whole: %q", got)
	}
}

// A response that is not compressed costs no memory.
func TestFiltersThatStayOutAllocateNothing(t *testing.T) {
	b, p := sidecar(t)
	b.config.Filters = append([]stream.Factory{compressor.New("c", zipper()), decompressor.New("d", unzipper())}, b.config.Filters...)
	wantNoAllocs(t, b, p)
}

// A body that is whole when it comes is decompressed in memory that is there.
func TestDecompressedRequestDoesNotAllocate(t *testing.T) {
	b, p := sidecar(t)
	b.config.Filters = append([]stream.Factory{decompressor.New("d", unzipper())}, b.config.Filters...)
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	io.WriteString(z, "what the client says")
	z.Close()
	post := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(body.Len()) + "\r\n\r\n" + body.String())
	var got string
	request := func() {
		p.Write(post)
		b.Step()
		p.In = p.In[:0]
	}
	b.Handle(app1, func(p *drive.Pipe) {
		p.OnData = func(p *drive.Pipe) {
			if got == "" {
				got = string(p.In)
			}
			if p.In = p.In[:0]; !strings.Contains(got, "what the client says") {
				return
			}
			p.WriteString("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
		}
	})
	for range 100 {
		request()
	}
	if !strings.Contains(got, "what the client says") {
		t.Fatalf("the application got %q", got)
	}
	if n := testing.AllocsPerRun(1000, request); n != 0 {
		t.Errorf("a request allocates %v times, want 0", n)
	}
}

// A worker that holds as much of bodies as it may takes no more: a request that looks further back than there is memory for is told so.
func TestARequestThatLooksBackTooFarIsTold(t *testing.T) {
	var wide bytes.Buffer
	w, err := zstd.NewWriter(&wide, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(strings.Repeat("what comes ", 100)))
	w.Flush()
	of, err := coding.NewUnzstd(nil)
	if err != nil {
		t.Fatal(err)
	}
	config, bad := unzipper(), 0
	config.Decoding, config.Failed = of, func(error) { bad++ }
	b := filtered(t, decompressor.New("d", config), nil)
	b.Handle(app1, func(*drive.Pipe) {})
	// All begin before any says how much it needs.
	const clients = 30
	var open []*drive.Pipe
	for range clients {
		p := b.dial()
		p.WriteString("POST / HTTP/1.1\r\nhost: a\r\ncontent-encoding: zstd\r\ntransfer-encoding: chunked\r\n\r\n")
		open = append(open, p)
	}
	b.Step()
	refused := 0
	for _, p := range open {
		p.WriteString(strconv.FormatInt(int64(wide.Len()), 16) + "\r\n" + wide.String() + "\r\n")
		b.Step()
		switch got := p.Take(); {
		case strings.HasPrefix(got, "HTTP/1.1 503 Service Unavailable\r\n"):
			refused++
		case got != "":
			t.Fatalf("a request is answered with %q", got)
		}
	}
	if held := clients - refused; held < 20 || held > 27 {
		t.Errorf("%d requests with windows of 8 MiB are decompressed, want what 256 MiB hold", held)
	}
	if bad != 0 {
		t.Errorf("%d bodies count as bad, want none: it was not their fault", bad)
	}
}
