package dns

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mallamesh/malla/base/share"
	"github.com/miekg/dns"
)

// A Server answers questions. Its fields are set before it serves.
type Server struct {
	// Forward answers what the table does not know; nil refuses. It is called
	// from a goroutine per question, at most MaxForward at a time.
	Forward func(context.Context, *dns.Msg) (*dns.Msg, error)
	// TTL is in seconds; default 5, as CoreDNS for Kubernetes: what a name means
	// changes with each pod.
	TTL uint32
	// ForwardTimeout bounds one forwarded question; default 6 s. A resolver in
	// the pod asks again after 5.
	ForwardTimeout time.Duration
	MaxForward     int // default 512
	// Share bounds the forwarded questions of one client that are under way;
	// default MaxForward/8: who asks much must not keep others from asking.
	Share int
	// Client names whose share a question counts for, so that several addresses may
	// be one client; default: the address.
	Client func(netip.Addr) string
	// Partial tables know addresses only: what else is asked of their names is forwarded.
	Partial bool
	// Observe, if set, is told of every question, once it is answered.
	Observe func(*Asked)
	Log     *slog.Logger

	table atomic.Pointer[Table]
	rules atomic.Pointer[Rules]
	// Questions that rules delay now.
	delayed atomic.Int32
	once    sync.Once

	asking share.Share // questions that are forwarded, by client
}

// SetTable changes the names that the server knows.
func (s *Server) SetTable(t *Table) { s.table.Store(t) }

// SetRules changes what happens to questions by policy.
func (s *Server) SetRules(r Rules) { s.rules.Store(&r) }

// ServeUDP answers on a socket until it is closed.
func (s *Server) ServeUDP(c net.PacketConn) error {
	return s.serve(&dns.Server{PacketConn: c, Handler: s, UDPSize: 4096}, c.Close)
}

// ServeTCP answers on a listener until it is closed.
func (s *Server) ServeTCP(l net.Listener) error {
	return s.serve(&dns.Server{Listener: l, Handler: s, MaxTCPQueries: 128}, l.Close)
}

func (s *Server) serve(d *dns.Server, shut func() error) error {
	s.init()
	err := d.ActivateAndServe()
	shut()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.TTL == 0 {
			s.TTL = 5
		}
		if s.ForwardTimeout == 0 {
			s.ForwardTimeout = 6 * time.Second
		}
		if s.MaxForward == 0 {
			s.MaxForward = 512
		}
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		if s.Share == 0 {
			s.Share = max(1, s.MaxForward/8)
		}
		if s.Client == nil {
			s.Client = netip.Addr.String
		}
		s.asking.All, s.asking.Each = s.MaxForward, s.Share
	})
}

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	a := s.judge(context.WithValue(context.Background(), peerKey{}, peer(w.RemoteAddr())), q)
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
		}
		a.Truncate(min(size, 4096))
	}
	if err := w.WriteMsg(a); err != nil {
		s.Log.Debug("dns: answer not sent", "peer", w.RemoteAddr(), "error", err)
	}
}

// maxDelayed is how many questions wait at once; more of them are answered at once.
const maxDelayed = 4096

// judge answers as rules want it, and tells of it.
func (s *Server) judge(ctx context.Context, q *dns.Msg) *dns.Msg {
	if len(q.Question) != 1 || s.rules.Load() == nil && s.Observe == nil {
		return s.Answer(ctx, q)
	}
	began := time.Now()
	asked := &Asked{Name: canonical(q.Question[0].Name), Type: dns.Type(q.Question[0].Qtype).String(), Source: FromTable}
	a := s.ruled(q, asked)
	if a == nil {
		a = s.Answer(context.WithValue(ctx, askedKey{}, asked), q)
	}
	asked.Rcode, asked.Took = dns.RcodeToString[a.Rcode], time.Since(began)
	if s.Observe != nil {
		for _, rr := range a.Answer {
			asked.Answer = append(asked.Answer, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		s.Observe(asked)
	}
	return a
}

// ruled waits as a rule wants it, and returns the answer of one that denies; nil: what the name means counts.
func (s *Server) ruled(q *dns.Msg, asked *Asked) *dns.Msg {
	rules := s.rules.Load()
	if rules == nil {
		return nil
	}
	r := rules.For(asked.Name)
	if asked.Rule = r; r == nil || rand.Float64()*100 >= r.Percent {
		return nil
	}
	if r.Delay > 0 {
		if s.delayed.Add(1) <= maxDelayed { // whoever asks has a goroutine of its own here
			time.Sleep(r.Delay)
		}
		s.delayed.Add(-1)
	}
	if r.Rcode == dns.RcodeSuccess {
		return nil
	}
	asked.Source = FromRule
	return failure(q, r.Rcode)
}

// askedKey is the key of the question's record in its context.
type askedKey struct{}

// Answer returns the answer to one message; it is never nil.
func (s *Server) Answer(ctx context.Context, q *dns.Msg) *dns.Msg {
	s.init()
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		return failure(q, dns.RcodeNotImplemented)
	}
	question := q.Question[0]
	name, t := canonical(question.Name), s.table.Load()
	if question.Qclass == dns.ClassINET {
		if addr, ok := address(name); ok && question.Qtype == dns.TypePTR && t != nil {
			if host, ok := t.reverse[addr]; ok {
				a := s.reply(q)
				a.Answer = []dns.RR{&dns.PTR{Hdr: s.header(question.Name, dns.TypePTR), Ptr: fqdn(host)}}
				return a
			}
		}
		if r, ok := t.Lookup(name); ok {
			if s.Partial && question.Qtype != dns.TypeA && question.Qtype != dns.TypeAAAA {
				return exists(s.ask(ctx, q))
			}
			return s.known(ctx, q, r)
		}
		if t.inZone(name) {
			a := s.reply(q)
			if !t.parents[name] {
				a.Rcode = dns.RcodeNameError
			}
			a.Ns = s.soa(t, name)
			return a
		}
	}
	return s.ask(ctx, q)
}

// known answers from a record, following a CNAME inside and outside the table.
func (s *Server) known(ctx context.Context, q *dns.Msg, r Record) *dns.Msg {
	a, question := s.reply(q), q.Question[0]
	name, t := question.Name, s.table.Load()
	for range 8 { // a chain of CNAMEs may be a circle
		if r.CNAME == "" {
			a.Answer = append(a.Answer, s.records(name, question.Qtype, r)...)
			if len(a.Answer) == 0 {
				a.Ns = s.soa(t, canonical(name))
			}
			a.Extra = append(a.Extra, s.targets(a.Answer, t)...)
			return a
		}
		target := fqdn(r.CNAME)
		a.Answer = append(a.Answer, &dns.CNAME{Hdr: s.header(name, dns.TypeCNAME), Target: target})
		if question.Qtype == dns.TypeCNAME {
			return a
		}
		name = target
		next, ok := t.Lookup(target)
		if !ok {
			if !t.inZone(canonical(target)) {
				s.chase(ctx, a, target, question.Qtype)
			}
			return a
		}
		r = next
	}
	return failure(q, dns.RcodeServerFailure)
}

// chase adds what the outside says of a CNAME's target.
func (s *Server) chase(ctx context.Context, a *dns.Msg, target string, qtype uint16) {
	q := new(dns.Msg).SetQuestion(target, qtype)
	out := s.ask(ctx, q)
	a.Answer = append(a.Answer, out.Answer...)
	if out.Rcode == dns.RcodeServerFailure {
		a.Rcode = out.Rcode
	}
}

func (s *Server) records(name string, qtype uint16, r Record) []dns.RR {
	var rr []dns.RR
	var ends []int // of the tiers in rr
	tiers := r.Tiers
	left := len(r.Addrs)
	if len(tiers) > 0 {
		left = tiers[0]
	}
	for _, addr := range r.Addrs {
		if left == 0 {
			ends = append(ends, len(rr))
			if tiers = tiers[1:]; len(tiers) > 0 {
				left = tiers[0]
			} else {
				left = len(r.Addrs)
			}
		}
		left--
		switch {
		case addr.Is4() && (qtype == dns.TypeA || qtype == dns.TypeANY):
			rr = append(rr, &dns.A{Hdr: s.header(name, dns.TypeA), A: addr.AsSlice()})
		case addr.Is6() && (qtype == dns.TypeAAAA || qtype == dns.TypeANY):
			rr = append(rr, &dns.AAAA{Hdr: s.header(name, dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	if qtype == dns.TypeSRV || qtype == dns.TypeANY {
		for _, srv := range r.SRV {
			rr = append(rr, &dns.SRV{Hdr: s.header(name, dns.TypeSRV), Weight: 100, Port: srv.Port, Target: fqdn(srv.Target)})
		}
	}
	// Clients take the first: spread them.
	from := 0
	for _, end := range append(ends, len(rr)) {
		tier := rr[from:end]
		rand.Shuffle(len(tier), func(i, j int) { tier[i], tier[j] = tier[j], tier[i] })
		from = end
	}
	return rr
}

// targets are the addresses of SRV answers (RFC 2782), so that one question is enough.
func (s *Server) targets(answer []dns.RR, t *Table) []dns.RR {
	var rr []dns.RR
	for _, a := range answer {
		if srv, ok := a.(*dns.SRV); ok {
			r, _ := t.Lookup(srv.Target)
			rr = append(rr, s.records(srv.Target, dns.TypeA, r)...)
			rr = append(rr, s.records(srv.Target, dns.TypeAAAA, r)...)
		}
	}
	return rr
}

// exists makes no such name of no such record: who asks knows the name.
func exists(a *dns.Msg) *dns.Msg {
	if a.Rcode == dns.RcodeNameError {
		a.Rcode = dns.RcodeSuccess
	}
	return a
}

func (s *Server) ask(ctx context.Context, q *dns.Msg) *dns.Msg {
	if asked, ok := ctx.Value(askedKey{}).(*Asked); ok {
		asked.Source = FromForward
	}
	if s.Forward == nil {
		return failure(q, dns.RcodeRefused)
	}
	client := s.client(ctx)
	if !s.asking.Take(client) {
		return failure(q, dns.RcodeServerFailure)
	}
	defer s.asking.Give(client)
	ctx, cancel := context.WithTimeout(ctx, s.ForwardTimeout)
	defer cancel()
	a, err := s.Forward(ctx, q)
	if err != nil || a == nil {
		s.Log.Debug("dns: forward", "question", q.Question[0].Name, "error", err)
		return failure(q, dns.RcodeServerFailure)
	}
	a.Id, a.Question, a.Response, a.RecursionAvailable = q.Id, q.Question, true, true
	return a
}

// peerKey is the key of a question's client in its context.
type peerKey struct{}

// client says whose share a question counts for.
func (s *Server) client(ctx context.Context) string {
	if a, ok := ctx.Value(peerKey{}).(netip.Addr); ok {
		return s.Client(a)
	}
	return ""
}

// peer is the address of who asks.
func peer(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// reply is an empty, positive answer.
func (s *Server) reply(q *dns.Msg) *dns.Msg {
	a := new(dns.Msg).SetReply(q)
	a.Authoritative, a.RecursionAvailable = true, true
	if o := q.IsEdns0(); o != nil {
		a.SetEdns0(4096, false)
	}
	return a
}

func failure(q *dns.Msg, code int) *dns.Msg {
	a := new(dns.Msg).SetRcode(q, code)
	a.RecursionAvailable = true
	return a
}

func (s *Server) header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: fqdn(name), Rrtype: t, Class: dns.ClassINET, Ttl: s.TTL}
}

// soa lets resolvers keep a negative answer, for as short as a positive one
// (RFC 2308, section 5).
func (s *Server) soa(t *Table, name string) []dns.RR {
	zone := name
	if t != nil {
		for _, z := range t.zones {
			if name == z || strings.HasSuffix(name, "."+z) {
				zone = z
			}
		}
	}
	h := s.header(zone, dns.TypeSOA)
	return []dns.RR{&dns.SOA{
		Hdr: h, Ns: fqdn("ns.dns." + zone), Mbox: fqdn("hostmaster." + zone),
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: s.TTL,
	}}
}
