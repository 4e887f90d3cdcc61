package ratelimitservice

import (
	"testing"

	"github.com/mallamesh/malla/proxy/header"
)

// A service that repeats what a client has said does not let it write fields of its own.
func TestFieldsOfTheService(t *testing.T) {
	var m header.Map
	add(&m, []pair{
		{[]byte("X-Good"), []byte("a b")}, {[]byte("x-bad"), []byte("a\r\nx-evil: b")}, {[]byte("x bad"), []byte("a")}, {[]byte(":path"), []byte("/")},
		{[]byte(""), []byte("a")}, {[]byte("Content-Length"), []byte("0")}, {[]byte("transfer-encoding"), []byte("chunked")},
	})
	if m.Len() != 1 || string(m.LookupString("x-good")) != "a b" {
		t.Errorf("the message has %v, want x-good", m.Fields())
	}
	f := &filter{}
	f.answer.statuses = []status{{limited: true, name: []byte("a\", x"), perUnit: 1, unit: 1}, {limited: true, name: []byte("b\r\nc"), perUnit: 1, unit: 1}}
	m.Reset()
	if f.limits(&m); string(m.LookupString("x-ratelimit-limit")) != "1, 1;w=1, 1;w=1" {
		t.Errorf("x-ratelimit-limit: %q", m.LookupString("x-ratelimit-limit"))
	}
}
