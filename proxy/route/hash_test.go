package route

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/lb"
)

// hashOf returns the hash of a request under policies.
func hashOf(t *testing.T, r *Request, list ...HashPolicy) (uint64, bool) {
	t.Helper()
	f, err := newForward(&ForwardConfig{Cluster: "c", HashPolicies: list}, &VirtualHostConfig{}, &Config{})
	if err != nil {
		t.Fatal(err)
	}
	return f.Hash(r, true)
}

func hashRequest() *Request {
	m := &header.Map{}
	m.Add(header.Path, []byte("/x?a=1&b=2&b=3&empty"))
	m.AddName([]byte("x-user"), []byte("zoe"))
	m.AddName([]byte("x-user"), []byte("ann"))
	m.Add(header.Cookie, []byte(`other=1; id="quoted"; id=second`))
	r := &Request{Headers: m, State: &access.State{}}
	r.State.Set("key", []byte("text"), false)
	r.Peer.Client = netip.MustParseAddr("10.1.2.3")
	r.Peer.Remote, r.Peer.Local = netip.MustParseAddrPort("10.1.2.3:555"), netip.MustParseAddrPort("10.0.0.1:80")
	return r
}

func TestHashPolicies(t *testing.T) {
	ann, both := lb.HashString("ann"), lb.HashOn(lb.HashString("ann"), []byte("zoe"))
	for _, test := range []struct {
		what string
		list []HashPolicy
		want uint64
		none bool
	}{
		{what: "the values of a header count sorted", list: []HashPolicy{{Header: "X-User"}}, want: both},
		{what: "a rewritten header", list: []HashPolicy{{Header: "x-user", HeaderRegex: "^z.*", HeaderSubstitution: "ann"}}, want: lb.HashOn(ann, []byte("ann"))},
		{what: "a header that is missing", list: []HashPolicy{{Header: "x-none"}}, none: true},
		{what: "a cookie loses its quotes; the first counts", list: []HashPolicy{{Cookie: "id"}}, want: lb.HashString("quoted")},
		{what: "a cookie that is missing", list: []HashPolicy{{Cookie: "none"}}, none: true},
		{what: "the first query parameter", list: []HashPolicy{{Query: "b"}}, want: lb.HashString("2")},
		{what: "a query parameter without a value has an empty one", list: []HashPolicy{{Query: "empty"}}, want: lb.HashString("")},
		{what: "filter state", list: []HashPolicy{{FilterState: "key"}}, want: lb.HashString("text")},
		{what: "the client's address, without its port", list: []HashPolicy{{SourceIP: true}}, want: lb.HashString("10.1.2.3")},
		{what: "hashes are combined by rotation", list: []HashPolicy{{Query: "a"}, {Query: "a"}}, want: (lb.HashString("1")<<1 | lb.HashString("1")>>63) ^ lb.HashString("1")},
		{what: "a terminal policy ends the list if it gave a hash", list: []HashPolicy{{Query: "a", Terminal: true}, {Query: "b"}}, want: lb.HashString("1")},
		{what: "and only then", list: []HashPolicy{{Query: "none", Terminal: true}, {Query: "b"}}, want: lb.HashString("2")},
	} {
		got, ok := hashOf(t, hashRequest(), test.list...)
		if ok == test.none || ok && got != test.want {
			t.Errorf("%s: %x, %v, want %x", test.what, got, ok, test.want)
		}
	}
}

// A client without the cookie gets one, which is a hash of its connection and counts at once.
func TestHashCookie(t *testing.T) {
	ttl, none := 90*time.Second, time.Duration(0)
	for _, test := range []struct {
		policy HashPolicy
		want   string
	}{
		{HashPolicy{Cookie: "new", CookieTTL: &ttl, CookiePath: "/p", CookieAttributes: [][2]string{{"SameSite", "Strict"}, {"Secure", ""}}},
			`; Max-Age=90; Path=/p; SameSite=Strict; Secure; HttpOnly`},
		{HashPolicy{Cookie: "new", CookieTTL: &none}, `; HttpOnly`},
	} {
		r := hashRequest()
		got, ok := hashOf(t, r, test.policy)
		value := ""
		if len(r.NewCookies) == 1 {
			value = string(r.NewCookies[0][len(`new="`):][:16])
		}
		if !ok || got != lb.HashString(value) || len(r.NewCookies) != 1 || string(r.NewCookies[0]) != `new="`+value+`"`+test.want {
			t.Errorf("%x, %v, cookies %q", got, ok, r.NewCookies)
		}
	}
	r := hashRequest()
	f, _ := newForward(&ForwardConfig{Cluster: "c", HashPolicies: []HashPolicy{{Cookie: "new", CookieTTL: &ttl}}}, &VirtualHostConfig{}, &Config{})
	if _, ok := f.Hash(r, false); ok || r.NewCookies != nil {
		t.Error("a cookie was made where none is wanted")
	}
}

func TestHashAllocs(t *testing.T) {
	f, err := newForward(&ForwardConfig{Cluster: "c", HashPolicies: []HashPolicy{{Header: "x-user"}, {Cookie: "id"}, {Query: "b"}, {SourceIP: true}}}, &VirtualHostConfig{}, &Config{})
	if err != nil {
		t.Fatal(err)
	}
	r := hashRequest()
	if n := testing.AllocsPerRun(100, func() { f.Hash(r, true) }); n != 0 {
		t.Errorf("a hash allocates %v times, want 0", n)
	}
}
