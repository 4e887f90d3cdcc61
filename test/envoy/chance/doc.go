// Package chance makes what clients of HTTP/1.1 and HTTP/2 send, mostly right and now and then wrong, out of random numbers, and
// says what they see. The same seed makes the same bytes, so that two proxies can be asked the same.
//
// It knows nothing of either proxy: what differs on purpose stands with the test that compares them.
package chance
