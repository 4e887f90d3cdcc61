// Command echo stands for the image of the conformance suite's mesh tests (Istio's echo
// application): a server that tells what it was asked, and a client that is run in the
// same container, as `client URL`. It speaks as much as those tests look at.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// method is that of Istio's echo service. Its messages have one text, as a StringValue has.
const method = "/proto.EchoTestService/Echo"

func main() {
	if len(os.Args) > 1 && strings.Contains(os.Args[1], "://") {
		if err := client(os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	log.Fatal(server(os.Args[1:]))
}

// many is a flag that may be given several times.
type many []string

func (m *many) String() string     { return strings.Join(*m, ",") }
func (m *many) Set(s string) error { *m = append(*m, s); return nil }

func server(args []string) error {
	var ports, grpcs, tcps, secure many
	f := flag.NewFlagSet("echo", flag.ContinueOnError)
	f.Var(&ports, "port", "HTTP")
	f.Var(&grpcs, "grpc", "gRPC")
	f.Var(&tcps, "tcp", "TCP")
	f.Var(&secure, "tls", "of the HTTP ports, those with TLS: they are left out, no test asks them")
	f.String("crt", "", "")
	f.String("key", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	failed := make(chan error)
	for _, p := range ports {
		if slices.Contains(secure, p) {
			continue
		}
		protocols := new(http.Protocols)
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		s := &http.Server{Addr: ":" + p, Handler: http.HandlerFunc(echo), Protocols: protocols, ReadHeaderTimeout: 10 * time.Second}
		go func() { failed <- s.ListenAndServe() }()
	}
	for _, p := range grpcs {
		l, err := net.Listen("tcp", ":"+p)
		if err != nil {
			return err
		}
		s := grpc.NewServer()
		s.RegisterService(&grpc.ServiceDesc{ServiceName: "proto.EchoTestService", HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: echoGRPC}}}, struct{}{})
		go func() { failed <- s.Serve(l) }()
	}
	for _, p := range tcps {
		l, err := net.Listen("tcp", ":"+p)
		if err != nil {
			return err
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					failed <- err
					return
				}
				go func() { defer c.Close(); fmt.Fprintf(c, "StatusCode=200\nHostname=%s\n", hostname()); io.Copy(c, c) }()
			}
		}()
	}
	return <-failed
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}

func echo(w http.ResponseWriter, r *http.Request) {
	_, port, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	fmt.Fprintf(w, "ServicePort=%s\nHost=%s\nURL=%s\nMethod=%s\nProto=%s\n", port, r.Host, r.URL.RequestURI(), r.Method, r.Proto)
	headers(w, "RequestHeader", r.Header)
	fmt.Fprintf(w, "Hostname=%s\n", hostname())
}

func headers(w io.Writer, as string, h map[string][]string) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			fmt.Fprintf(w, "%s=%s:%s\n", as, name, v)
		}
	}
}

func echoGRPC(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	var b strings.Builder
	fmt.Fprintf(&b, "StatusCode=200\nHost=%s\nProto=GRPC\n", strings.Join(md[":authority"], ","))
	headers(&b, "RequestHeader", md)
	fmt.Fprintf(&b, "Hostname=%s\nEcho=%s\n", hostname(), in.GetValue())
	return wrapperspb.String(b.String()), nil
}

// client asks a server and prints what came back, each answer followed by an empty line.
func client(args []string, out io.Writer) error {
	var header many
	f := flag.NewFlagSet("client", flag.ContinueOnError)
	verb := f.String("method", "GET", "")
	count := f.Int("count", 1, "")
	f.Var(&header, "H", "NAME:VALUE")
	if len(args) == 0 {
		return fmt.Errorf("want a URL")
	}
	target, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	for range *count {
		var text string
		switch target.Scheme {
		case "http", "https":
			text, err = ask(target, *verb, header)
		case "grpc":
			text, err = askGRPC(target, header)
		default:
			err = fmt.Errorf("scheme %q, want http, https or grpc", target.Scheme)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(out, strings.ReplaceAll(strings.TrimSpace(text), "\n\n", "\n"))
		if *count > 1 {
			fmt.Fprintln(out)
		}
	}
	return nil
}

func ask(target *url.URL, verb string, header []string) (string, error) {
	req, err := http.NewRequest(verb, target.String(), nil)
	if err != nil {
		return "", err
	}
	for _, h := range header {
		name, value, _ := strings.Cut(h, ":")
		if strings.EqualFold(name, "host") {
			req.Host = value
		} else {
			req.Header.Add(name, value)
		}
	}
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "StatusCode=%d\n", resp.StatusCode)
	headers(&b, "ResponseHeader", resp.Header)
	b.Write(body)
	return b.String(), nil
}

func askGRPC(target *url.URL, header []string) (string, error) {
	host := target.Host
	if target.Port() == "" {
		host += ":80"
	}
	conn, err := grpc.NewClient(host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, h := range header {
		name, value, _ := strings.Cut(h, ":")
		ctx = metadata.AppendToOutgoingContext(ctx, name, value)
	}
	var got metadata.MD
	reply := new(wrapperspb.StringValue)
	err = conn.Invoke(ctx, method, wrapperspb.String("hello"), reply, grpc.Header(&got))
	if err != nil {
		return "StatusCode=" + strconv.Itoa(asHTTP(status.Code(err))) + "\n" + err.Error(), nil
	}
	var b strings.Builder
	headers(&b, "ResponseHeader", got)
	return b.String() + reply.GetValue(), nil
}

// asHTTP is what the tests take a code of gRPC for.
func asHTTP(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.Unimplemented:
		return http.StatusNotFound
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
