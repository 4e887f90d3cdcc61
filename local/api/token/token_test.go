package token

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func issuer(t testing.TB, now func() time.Time) *Issuer {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	i, err := New(key, now)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var bound = Bound{Namespace: "prod", ServiceAccount: Ref{"reviews", "u1"}, Pod: &Ref{"reviews-x", "u2"}}

func TestTokens(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	i := issuer(t, func() time.Time { return now })
	text, expires, err := i.Issue(bound, []string{"istio-ca"}, time.Hour)
	if err != nil || !expires.Equal(now.Add(time.Hour)) {
		t.Fatalf("expires %v, %v", expires, err)
	}
	c, err := i.Check(text)
	if err != nil || c.Subject != "system:serviceaccount:prod:reviews" || c.Kubernetes.Pod.Name != "reviews-x" || c.Audience[0] != "istio-ca" {
		t.Errorf("claims %+v, %v", c, err)
	}
	if _, err := issuer(t, i.now).Check(text); err == nil {
		t.Error("another key's token is good")
	}
	head, rest, _ := strings.Cut(text, ".")
	body, _, _ := strings.Cut(rest, ".")
	// {"alg":"none"}: a token that says that it needs no signature.
	if _, err := i.Check("eyJhbGciOiJub25lIn0." + body + "."); err == nil {
		t.Error("an unsigned token is good")
	}
	if _, err := i.Check(head + "." + body + "."); err == nil {
		t.Error("a token without its signature is good")
	}
	now = now.Add(time.Hour + time.Second)
	if _, err := i.Check(text); err == nil {
		t.Error("a token is good after its end")
	}
}

func TestKeyIsChecked(t *testing.T) {
	for _, key := range []string{"", "nonsense", "-----BEGIN PRIVATE KEY-----\nMTIz\n-----END PRIVATE KEY-----\n"} {
		if _, err := New([]byte(key), time.Now); err == nil {
			t.Errorf("key %q is accepted", key)
		}
	}
}

// FuzzCheck looks for texts that pass as tokens without having been issued. One
// that says the same in other letters (base64 has spare bits) is no forgery.
func FuzzCheck(f *testing.F) {
	i := issuer(f, time.Now)
	text, _, _ := i.Issue(bound, []string{"a"}, time.Hour)
	f.Add("")
	f.Add("a.b.c")
	f.Add(text)
	f.Fuzz(func(t *testing.T, in string) {
		if c, err := i.Check(in); err == nil && !reflect.DeepEqual(c.Kubernetes, bound) {
			t.Errorf("%q is accepted as %+v", in, c)
		}
	})
}
