package header

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Names of a head are written as the sender wrote them, the others with capitals or not at all.
func TestSpell(t *testing.T) {
	const head = "GET /x:y HTTP/1.1\r\nhost: A\r\nx-some-thing: b\r\nx-some-thing: c\r\nx-request-id: 1\r\n\r\n"
	for proper, want := range map[bool]string{
		false: "GET /x:y HTTP/1.1\r\nHOST: A\r\nX-some-THING: b\r\nX-some-THING: c\r\nx-request-id: 1\r\n\r\n",
		true:  "GET /x:y HTTP/1.1\r\nHOST: A\r\nX-some-THING: b\r\nX-some-THING: c\r\nX-Request-Id: 1\r\n\r\n",
	} {
		var m Map
		m.BeginSpelling(proper)
		for _, name := range []string{"HOST", "X-some-THING", "x-SOME-thing"} {
			m.KeepSpelling([]byte(name))
		}
		got := []byte(head)
		if m.Spell(got); string(got) != want {
			t.Errorf("proper %v: %q\nwant %q", proper, got, want)
		}
		if m.Reset(); m.Spelled() {
			t.Error("the next message is spelled like this one")
		}
	}
}

// Spelling a message allocates nothing once a map has grown to its size.
func TestSpellAllocs(t *testing.T) {
	var m Map
	name, head := []byte("X-Some-Thing"), []byte("GET / HTTP/1.1\r\nx-some-thing: b\r\n\r\n")
	if n := testing.AllocsPerRun(100, func() {
		m.Reset()
		m.BeginSpelling(true)
		m.KeepSpelling(name)
		m.Spell(head)
	}); n != 0 {
		t.Errorf("spelling allocates %v times, want 0", n)
	}
}

// A head of very many fields is spelled as others are, and costs as much as it is long.
func TestSpellManyFields(t *testing.T) {
	var m Map
	m.BeginSpelling(false)
	head, want := []byte("GET / HTTP/1.1\r\n"), []byte("GET / HTTP/1.1\r\n")
	for i := range 13_000 {
		name := fmt.Sprintf("%05X", i) // all that is kept, of one length
		m.KeepSpelling([]byte(name))
		m.KeepSpelling([]byte(strings.ToLower(name))) // the first counts
		head, want = fmt.Appendf(head, "%05x: \r\n", i), fmt.Appendf(want, "%05X: \r\n", i)
	}
	// Looked for name by name, as few names are, a sixteenth of them take longer than all with an index; on any machine.
	quick := shortest(func() { m.Spell(bytes.Clone(head)) })
	slow := shortest(func() {
		for i := 0; i < 13_000; i += 16 {
			m.spelling.write(fmt.Appendf(nil, "%05x", i))
		}
	})
	if quick > slow {
		t.Errorf("%v for %d bytes, %v for the names of a sixteenth of them one by one", quick, len(head), slow)
	}
	m.Spell(head)
	kept := bytes.Index(want, []byte(fmt.Sprintf("%05X", maxSpelled/10)))
	if !bytes.Equal(head[:kept], want[:kept]) {
		t.Error("fields are spelled otherwise than they were")
	}
}

// shortest is how long f takes when nobody disturbs it.
func shortest(f func()) time.Duration {
	least := time.Hour
	for range 3 {
		began := time.Now()
		f()
		least = min(least, time.Since(began))
	}
	return least
}
