package regex

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func names(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("name-%d-%c", i, 'a'+i%26))
	}
	return strings.Join(all, "|")
}

func TestCost(t *testing.T) {
	for _, test := range []struct {
		expr string
		ok   bool
	}{
		{`/api/v[0-9]+/.*`, true},
		{`^/(` + names(400) + `)(/.*)?$`, true}, // long, and cheap
		{`[^/]{1,500}`, true},
		{`(a{30}){30}`, true},
		{`.*(` + names(50) + `).*`, true},
		{`(.*a){20}`, true},
		{`(.*a){1000}`, false}, // seconds for one long header
		{`(.*a){100}`, false},
		{`(?:.*[a-z0-9]){200}`, false},
		{`(?i)(.*é){300}`, false},
		{`(a|b)*a(a|b){400}`, false},
		{`([^/]{1,30}){30}`, false},
		{`(\w{900}|x){20}`, false}, // 16,384 instructions and more
		{`(a`, false},
	} {
		_, err := Compile(test.expr)
		if (err == nil) != test.ok {
			t.Errorf("Compile(%.40q) says %v, want it accepted: %v", test.expr, err, test.ok)
		}
	}
}

// What is refused for its length is refused before it is written out: 20 KiB of repetitions would take 465 MiB.
func TestTooLongCostsLittle(t *testing.T) {
	for _, expr := range []string{strings.Repeat("a{1000}", 3000), strings.Repeat("(a{10}){100}", 1700), strings.Repeat("((a|b){10}){50}", 1500)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Compile(expr)
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%.20s... is accepted", expr)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
			t.Errorf("%.20s...: %d MiB were taken to say that %v", expr, took>>20, err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add(`(.*a){100}`, "aaaa")
	f.Fuzz(func(t *testing.T, expr, text string) {
		if re, err := Compile(expr); err == nil {
			re.MatchString(text)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	for _, e := range []string{`/api/v[0-9]+/.*`, `^/(` + names(400) + `)(/.*)?$`, `(.*a){1000}`, `.*(` + names(50) + `).*`} {
		b.Run(fmt.Sprintf("%.20s", e), func(b *testing.B) {
			for b.Loop() {
				Compile(e)
			}
		})
	}
}
