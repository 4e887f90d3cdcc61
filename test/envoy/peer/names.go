package peer

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// datagrams opens the other half of a name server, at the address of the first.
func (u *Upstream) datagrams() error {
	p, err := net.ListenPacket("udp", u.Addr())
	if err != nil {
		return err
	}
	u.packets = p
	go func() {
		_ = (&dns.Server{PacketConn: p, Handler: dns.HandlerFunc(u.answerName)}).ActivateAndServe()
	}()
	return nil
}

// dns answers questions on one connection.
func (u *Upstream) dns(c net.Conn) {
	l := &oneConn{conn: c, ended: make(chan struct{})}
	_ = (&dns.Server{Listener: l, Handler: dns.HandlerFunc(u.answerName)}).ActivateAndServe()
}

// answerName answers one question from the zone of now.
func (u *Upstream) answerName(w dns.ResponseWriter, q *dns.Msg) {
	network := w.RemoteAddr().Network()
	ask := q.Question[0]
	note := network + " " + dns.TypeToString[ask.Qtype] + " " + strings.ToLower(ask.Name)
	if e := q.IsEdns0(); e != nil && u.script.Attrs["note"] == "size" {
		note += fmt.Sprintf(" up to %d bytes", e.UDPSize())
	}
	u.noteOnce(note)
	if u.script.Answers[0].Has("silent") {
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	text, err := os.ReadFile(filepath.Join(u.dir, u.script.Attrs["file"]))
	var answer = u.script.Answers[0]
	if err != nil || answer.Has("fail") && strings.TrimSpace(string(text)) == "" {
		m.Rcode = dns.RcodeServerFailure
		_ = w.WriteMsg(m)
		return
	}
	name, known := ask.Name, false
	for line := range strings.Lines(string(text)) {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil || !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		known = true
		if rr.Header().Rrtype == ask.Qtype || rr.Header().Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
		if c, ok := rr.(*dns.CNAME); ok {
			name = c.Target
		}
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	if answer.Has("cut") && network == "udp" {
		m.Answer, m.Truncated = nil, true
	}
	_ = w.WriteMsg(m)
}

// noteOnce notes what has not been noted before, in alphabetical order: questions come as often as
// a resolver likes, and at the same time.
func (u *Upstream) noteOnce(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if at, found := slices.BinarySearch(u.seen, text); !found {
		u.seen = slices.Insert(u.seen, at, text)
	}
}
