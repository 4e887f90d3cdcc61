//go:build linux

package fdmsg

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}

type message struct{ Text string }

// Messages that follow each other keep their own descriptors.
func TestRoundTrip(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		Write(a, message{"none"})
		Write(a, message{strings.Repeat("long", 100_000)})
		Write(a, message{"two"}, w, w)
		Write(a, message{"one"}, w)
		w.Close()
		a.Close()
	}()
	for _, want := range []struct {
		text  string
		files int
	}{{"none", 0}, {strings.Repeat("long", 100_000), 0}, {"two", 2}, {"one", 1}} {
		var m message
		files, err := Read(b, &m)
		if err != nil || m.Text != want.text || len(files) != want.files {
			t.Fatalf("got %.10q with %d files, %v; want %.10q with %d", m.Text, len(files), err, want.text, want.files)
		}
		for _, f := range files {
			io.WriteString(f, m.Text+" ")
			f.Close()
		}
	}
	if _, err := Read(b, &message{}); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	if got, _ := io.ReadAll(r); string(got) != "two two one " {
		t.Errorf("through the descriptors: %q", got)
	}
}

func TestBounds(t *testing.T) {
	a, b := pair(t)
	if err := Write(a, message{strings.Repeat("x", MaxSize)}); !errors.Is(err, errSize) {
		t.Errorf("send too much: %v", err)
	}
	files := make([]*os.File, MaxFiles+1)
	for i := range files {
		files[i] = os.Stdin
	}
	if err := Write(a, message{}, files...); err == nil {
		t.Error("sent too many descriptors")
	}
	a.Write([]byte{0xff, 0xff, 0xff, 0xff})
	if _, err := Read(b, &message{}); !errors.Is(err, errSize) {
		t.Errorf("receive too much: %v", err)
	}
}

// FuzzRead: bytes of a foreign peer give a message or an error.
func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0d{\"Text\":\"abc\"}"))
	f.Add([]byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<16 {
			return
		}
		a, b := pair(t)
		a.Write(in)
		a.Close()
		for {
			var m message
			if _, err := Read(b, &m); err != nil {
				return
			}
		}
	})
}
