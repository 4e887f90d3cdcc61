package regex

import (
	"strings"
	"testing"
	"time"
)

// slow is as costly as an expression may be.
const slow = `(.*a){20}b`

func TestASieveEnds(t *testing.T) {
	re, err := Compile(slow)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("a", 2000)
	s, began, n := NewSieve(re, 20*time.Millisecond), time.Now(), 0
	for s.Err() == nil {
		if s.MatchString(name) || s.Match([]byte(name)) {
			t.Fatal("the name matches")
		}
		n++
	}
	if took := time.Since(began); n == 0 || took > 10*time.Second {
		t.Errorf("%d names took %v", n, took)
	}
	if s.Err() != ErrSlow || s.MatchString("ab") {
		t.Error("a sieve that has ended goes on")
	}
}

func TestASieveIsItsExpression(t *testing.T) {
	re, err := Compile(`^cluster\.`)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSieve(re, time.Minute)
	if !s.MatchString("cluster.a") || !s.Match([]byte("cluster.b")) || s.MatchString("a.cluster.") || s.Err() != nil {
		t.Error("a sieve matches something else")
	}
}
