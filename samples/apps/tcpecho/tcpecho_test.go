package tcpecho

import (
	"io"
	"net"
	"slices"
	"testing"
)

func TestEcho(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"world\n", "one world\n"},
		{"a\nb\n", "one a\none b\n"},
		{"\n", "one \n"},
		{"no end", "one no end"},
		{"", ""},
	} {
		client, server := net.Pipe()
		go func() {
			io.WriteString(client, test.in)
			client.Close()
		}()
		var got []byte
		c := &recorder{Conn: server, to: &got}
		echo(c, "one")
		if string(got) != test.want {
			t.Errorf("%q is answered with %q, want %q", test.in, got, test.want)
		}
	}
}

// A recorder keeps what is written, so that a peer that has closed loses nothing.
type recorder struct {
	net.Conn
	to *[]byte
}

func (r *recorder) Write(b []byte) (int, error) {
	*r.to = append(*r.to, b...)
	return len(b), nil
}

func TestArguments(t *testing.T) {
	ports, prefix, err := parse([]string{"9000,9001,9002", "two"})
	if err != nil || !slices.Equal(ports, []string{"9000", "9001", "9002"}) || prefix != "two" {
		t.Errorf("parse = %q %q %v, want the three ports and two", ports, prefix, err)
	}
	for _, bad := range [][]string{{"http", "x"}, {"0", "x"}, {"65536", "x"}, {"9000", "x", "y"}} {
		if _, _, err := parse(bad); err == nil {
			t.Errorf("parse(%q) is accepted, want an error", bad)
		}
	}
}
