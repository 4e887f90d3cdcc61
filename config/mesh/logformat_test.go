package mesh

import (
	"testing"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/model"
)

// A format that proxies would refuse is refused where its author writes it, as
// far as syntax and operators go.
func TestLogFormat(t *testing.T) {
	const operators = ", want an operator such as %PROTOCOL%, %REQ(USER-AGENT)% or %REQ(USER-AGENT):20%, or %% for a percent sign"
	for _, test := range []struct{ text, want string }{
		{"accessLogFormat: istio", ""},
		{"accessLogFormat: istio-1.8", ""},
		{"accessLogFormat: istio-1.9", `found "istio-1.9", want a format with operators such as %START_TIME%, or the name istio or istio-1.8`},
		{"accessLogFormat: ''", ""},
		{"accessLogFormat: '%PROTOKOL%'", `found "%PROTOKOL%": unknown command operator %PROTOKOL%; did you mean PROTOCOL?`},
		{"accessLogFormat: '%CEL(request.size > 1 ? 1 : 2):1% %TYPED_CEL(has(request.referer))%'", ""},
		{"accessLogFormat: '%CEL%'", `found "%CEL%": command operator %CEL% has no argument, want %CEL(...)%`},
		{"accessLogFormat: '%REQ%'", `found "%REQ%": command operator %REQ% has no argument, want %REQ(...)%`},
		{"accessLogFormat: '%DURATION:5%'", `found "%DURATION:5%": command operator %DURATION% has a length, want none`},
		{"accessLogFormat: '%START_TIME(%s.%3f)% %REQ(X?:PATH):9% 100%%'", ""}, // an argument may hold percent signs
		{"accessLogFormat: 'took %DURATION ms'", `found "%DURATION ms"` + operators},
		{"accessLogFormat: '%REQ(:PATH%'", `found "%REQ(:PATH%"` + operators},
		{"accessLogFormat: '%PROTOCOL:x%'", `found "%PROTOCOL:x%"` + operators},
		{"accessLogFormat: '%protocol%'", `found "%protocol%"` + operators},
		{"accessLogEncoding: JSON\naccessLogFormat: '{\"a\": \"%PROTOCOL%\", \"b\": {\"c\": 1}}'", ""},
		{"accessLogEncoding: JSON\naccessLogFormat: '{\"a\": {\"b\": \"%X\"}}'", `a: b: found "%X"` + operators},
		{"accessLogEncoding: JSON\naccessLogFormat: '%PROTOCOL%'", `found "%PROTOCOL%", want a JSON object, since accessLogEncoding is JSON`},
	} {
		_, errs, _ := Parse(test.text, model.DefaultMeshConfig(), field.At("mesh"))
		got := ""
		if len(errs) > 0 {
			got = errs[0].Error()
		}
		want := test.want
		if want != "" {
			want = "mesh.accessLogFormat: " + want
		}
		if got != want {
			t.Errorf("%s:\nfound %s\nwant  %s", test.text, got, want)
		}
	}
}
