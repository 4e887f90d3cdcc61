package access

import (
	"encoding/json"
	"math"
	"testing"
	"unicode/utf8"

	"github.com/mallamesh/malla/proxy/metadata"
)

func TestNumbers(t *testing.T) {
	for _, test := range []struct {
		f    float64
		want string
	}{
		{0, "0"}, {-2500, "-2500"}, {0.25, "0.25"}, {10000, "10000"},
		{100000, "1e+05"}, {12345678901234568, "12345678901234568"}, // the shorter form
		{0.0001, "1e-04"}, {0.001, "0.001"}, {math.MaxFloat64, "1.7976931348623157e+308"}, {math.SmallestNonzeroFloat64, "5e-324"},
		{math.NaN(), "null"}, {math.Inf(-1), "null"},
	} {
		if got := string(appendNumber(nil, test.f)); got != test.want {
			t.Errorf("%v is written %s, want %s", test.f, got, test.want)
		}
	}
}

func TestMistakesInMetadataOperators(t *testing.T) {
	for _, format := range []string{"%DYNAMIC_METADATA%", "%METADATA(ns:a)%", "%METADATA(dynamic:ns)%", "%CLUSTER_METADATA(ns:a):3%", "%UPSTREAM_METADATA%"} {
		if _, err := Compile(format); err == nil {
			t.Errorf("%s has been taken", format)
		}
	}
}

// FuzzMetadata looks for text of metadata, which comes from clients, that makes a log line no JSON.
func FuzzMetadata(f *testing.F) {
	j, err := CompileJSON(map[string]any{"all": "%DYNAMIC_METADATA(ns)%", "text": "%DYNAMIC_METADATA(ns:a)%", "in": "x %DYNAMIC_METADATA(ns)%"}, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("text", 1.5)
	f.Add("\xff\"\\\n", math.MaxFloat64)
	f.Fuzz(func(t *testing.T, text string, n float64) {
		var r Record
		r.Dynamic.Put("ns", metadata.Struct{"a": text, "b" + text: []any{text, n, nil, true, metadata.Struct{text: text}}})
		line := j.Append(nil, &r)
		var back map[string]any
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatalf("%q is no JSON: %v", line, err)
		}
		if utf8.ValidString(text) && back["text"] != text {
			t.Errorf("%q has become %q", text, back["text"])
		}
	})
}
