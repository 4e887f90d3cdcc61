// Package forward copies the headers that a service passes on to the services
// it calls: those that belong to a trace, and those that say who is asking.
//
// A sidecar cannot know which outgoing request belongs to which incoming one;
// the application has to say so by passing these on.
package forward

import (
	"net"
	"net/http"
	"time"
)

// names are the headers of the tracing systems in use, and those of the user.
var names = []string{
	"X-Request-Id",
	// W3C Trace Context, Zipkin's two forms, and the vendors' own.
	"Traceparent", "Tracestate", "Baggage",
	"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags",
	"X-Ot-Span-Context", "X-Cloud-Trace-Context", "Grpc-Trace-Bin", "Sw8", "Uber-Trace-Id",
	"X-Datadog-Trace-Id", "X-Datadog-Parent-Id", "X-Datadog-Sampling-Priority",
	// The user.
	"End-User", "User-Agent", "Cookie", "Authorization", "Jwt",
}

// Headers copies to dst what of src is to be passed on.
func Headers(dst, src http.Header) {
	for _, name := range names {
		if v := src.Values(name); len(v) > 0 {
			dst[name] = append([]string(nil), v...)
		}
	}
}

// Client returns a client for calls to other services. Unlike net/http's own it
// takes no proxy from the environment: the developer's corporate proxy is not
// for names of the mesh.
func Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true, // bodies pass as they are
		},
		// Redirects are for the caller to see.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
