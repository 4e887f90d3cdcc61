// Package peers holds malla-proxy against programs and suites that others have written.
//
//   - h2spec: every case, with strict ones, plain and over TLS, before HTTP/1.1 and HTTP/2.
//   - gRPC's interoperability cases, grpc-go on both sides.
//   - WebSockets by two libraries, over HTTP/1.1 and as RFC 8441 has them over HTTP/2.
//   - curl, nghttp, h2load and Node as clients; nginx, nghttpd and Node as servers.
//   - Clients of HTTP/2 that mean harm, with the real Envoy beside us for what it counts and says.
//
// What Envoy does with the same bytes is the matter of test/envoy; here nobody but the
// peer says what is right. All is run against the real binary with a bootstrap of
// Envoy's form. A tool that is missing skips its test, but never with CI=true.
package peers
