// Package faults puts malla-proxy before servers and clients that misbehave, and counts the requests that
// fail because of it: as a rule there is none.
//
// Everything runs against the real binary with real sockets. Whether the answer to one request is right is
// the matter of test/envoy; here it is whether thousands of them all get theirs.
package faults
