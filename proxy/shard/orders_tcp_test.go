package shard

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/drive"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/tcp"
)

// Whatever the order in which clients and hosts of a TCP proxy do something, each connection has one line in the log, bytes come in order and to
// nobody else, all of them if both sides end in order, and in the end nothing counts as going on.
func TestOrdersOfChanceOfTCP(t *testing.T) {
	eachOrder(t, func(t *testing.T, seed uint64) { newChance(t, seed).playTCP(200) })
}

// A chanceEnd is a client or a host of bytes.
type chanceEnd struct {
	w     *chance
	p     *drive.Pipe
	sent  strings.Builder // begins with its name
	got   string
	begun bool // its name has gone
	shut  bool // it has ended its side
	cut   bool // it has broken off
}

func (e *chanceEnd) name(kind string, n int) *chanceEnd {
	e.sent.WriteString(kind + strconv.Itoa(n) + ";")
	if e.w.IntN(3) == 0 {
		e.p.Window = 1 + e.w.IntN(5000)
	}
	return e
}

func (e *chanceEnd) act() {
	e.got += e.p.Take()
	switch n := e.w.IntN(14); {
	case e.p.Closed || e.shut:
	case n == 0:
		e.p.Reset()
		e.shut, e.cut = true, true
	case n == 1:
		e.p.CloseWrite()
		e.shut = true
	case n < 9:
		had := 0
		if e.begun {
			had = e.sent.Len()
		}
		e.begun = true
		e.sent.WriteString(strings.Repeat(fmt.Sprintf("%08d,", e.sent.Len()), 1+e.w.IntN(1<<e.w.IntN(13))))
		e.p.WriteString(e.sent.String()[had:])
	}
}

// playTCP has so many things happen, and looks whether all is as it was.
func (w *chance) playTCP(n int) {
	set := &stats.TCP{}
	c := &tcp.Config{StatPrefix: "t", Cluster: "app", Stats: set, Logs: []listen.Log{w.log}, Attempts: 1 + w.IntN(3), AfterData: w.IntN(4) == 0}
	if w.IntN(3) == 0 {
		c.IdleTimeout = time.Duration(1+w.IntN(5)) * time.Second
	}
	if w.IntN(3) == 0 {
		c.MaxAge = time.Duration(1+w.IntN(20)) * time.Second
	}
	w.rt.Listeners[0] = clone(w.bench, &listen.Chain{Name: "tcp", Filter: c}, "2")
	w.rt.Listeners[0].BufferLimit = w.IntN(2) * (1 + w.IntN(6000))
	if err := w.Apply(w.rt); err != nil {
		w.t.Fatal(err)
	}
	var clients, hosts []*chanceEnd
	ended := false // some were, from here
	act := func(e *chanceEnd) {
		if e != nil {
			e.act()
		}
	}
	handle := func(p *drive.Pipe) {
		e := (&chanceEnd{w: w, p: p}).name("host", len(hosts))
		hosts = append(hosts, e)
	}
	w.Handle(app1, handle)
	w.Handle(app2, handle)
	for range n {
		switch w.IntN(20) {
		case 0, 1:
			clients = append(clients, (&chanceEnd{w: w, p: w.dial()}).name("client", len(clients)))
		case 2, 3, 4, 5, 6, 7, 8:
			act(pick(w, clients))
		case 9, 10, 11, 12, 13, 14:
			act(pick(w, hosts))
		case 15:
			w.Advance(time.Duration(w.IntN(1<<w.IntN(14))) * time.Millisecond)
		case 16:
			w.move("app")
		case 17:
			switch w.IntN(4) {
			case 0:
				w.replace("app")
			case 1:
				ended = true
				reset(func(f func(*one)) { f(w.one) }, 1<<w.IntN(14), int64(w.IntN(20000)))
			}
		}
		if w.IntN(3) > 0 {
			w.Step()
		}
	}
	ends := append(append([]*chanceEnd(nil), clients...), hosts...)
	for moved := true; moved; {
		moved = false
		w.Step()
		for _, e := range ends {
			text := e.p.Take()
			e.got += text
			moved = moved || text != ""
		}
	}
	w.same(clients, hosts, !ended && c.IdleTimeout+c.MaxAge == 0)
	for _, e := range ends {
		e.p.Reset()
	}
	w.Advance(time.Minute)
	if n := w.Open(); n != 0 || set.DownstreamCxTotal.Value() != uint64(len(clients)) {
		w.t.Errorf("%d connections are open in the end, and there were %d of %d", n, set.DownstreamCxTotal.Value(), len(clients))
	}
	if len(w.log.lines) != len(clients) {
		w.t.Errorf("%d connections have %d lines in the log", len(clients), len(w.log.lines))
	}
	w.nothingLeft()
	if w.t.Failed() {
		w.t.Log(strings.Join(w.log.lines, "\n"))
	}
}

// same looks whether what each end got is what one other has sent, from the beginning, and all of it where nothing but these two ended it.
func (w *chance) same(clients, hosts []*chanceEnd, whole bool) {
	for _, side := range []struct {
		ends, others []*chanceEnd
	}{{clients, hosts}, {hosts, clients}} {
		from := map[string]bool{}
		for _, e := range side.ends {
			name, _, named := strings.Cut(e.got, ";")
			if !named {
				continue
			}
			n, err := strconv.Atoi(strings.TrimLeft(name, "clienthos"))
			if err != nil || n >= len(side.others) || from[name] || !strings.HasPrefix(side.others[n].sent.String(), e.got) {
				w.t.Errorf("what came of %q is not what it has sent: %.80q", name, e.got)
				continue
			}
			from[name] = true
			o := side.others[n]
			if whole && e.shut && o.shut && !e.cut && !o.cut && e.p.EOF && o.p.EOF && !e.p.Broken && !o.p.Broken && e.got != o.sent.String() {
				w.t.Errorf("%d bytes of %d came of %q, and both sides have ended in order", len(e.got), o.sent.Len(), name)
			}
		}
	}
}
