package peers

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"github.com/mallamesh/malla/test/hop"
)

// A port in plain text that takes both versions answers what is no preface as HTTP/1.1
// does, by 400, and closes; h2spec knows no such answer.
const badPreface = "http2/3.5/2"

// Every case of h2spec passes, the strict ones as well, whatever the upstream speaks.
func TestH2Spec(t *testing.T) {
	p := hop.PKI(t)
	h1, h2 := backend(t), backend(t)
	x := hop.Malla(t, p,
		hop.Hop{Name: "plain_h1", To: h1, HCM: "codec_type: HTTP2"},
		hop.Hop{Name: "both_h1", To: h1},
		hop.Hop{Name: "plain_h2", To: h2, ToH2: true, HCM: "codec_type: HTTP2"},
		hop.Hop{Name: "tls_h1", TLS: true, To: h1},
		hop.Hop{Name: "tls_h2", TLS: true, To: h2, ToH2: true})
	for _, name := range []string{"plain_h1", "both_h1", "plain_h2", "tls_h1", "tls_h2"} {
		ip, port, _ := net.SplitHostPort(x.At[name])
		n, _ := strconv.Atoi(port)
		c := &config.Config{Host: ip, Port: n, Path: "/", Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true, TLS: name[:3] == "tls", Insecure: true}
		t.Run(name, func(t *testing.T) {
			for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
				cases(t, c, g, name[:4] == "both")
			}
		})
	}
}

// cases runs a group's cases, each on a connection of its own.
func cases(t *testing.T, c *config.Config, g *spec.TestGroup, both bool) {
	for i, tc := range append(g.Tests[:len(g.Tests):len(g.Tests)], g.StrictTests...) {
		name := fmt.Sprintf("%s/%d", g.ID(), i+1)
		if both && name == badPreface {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := spec.Dial(c)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			switch err := tc.Run(c, conn); {
			case errors.Is(err, spec.ErrSkipped):
				t.Skip("h2spec leaves it out")
			case err != nil:
				t.Errorf("%s: %s\n%v", tc.Desc, tc.Requirement, err)
			}
		})
	}
	for _, sub := range g.Groups {
		cases(t, c, sub, both)
	}
}

// backend is net/http's server, HTTP/1.1 and HTTP/2 by prior knowledge on one port.
func backend(t testing.TB) string {
	return backendOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("content-type", "text/plain")
		_, _ = io.WriteString(w, "hello from behind the proxy\n")
	}))
}

func backendOf(t testing.TB, h http.Handler) string {
	l := hop.Serve(t)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: protocols}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}
