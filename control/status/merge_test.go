package status

import (
	"encoding/json"
	"testing"
	"time"
)

func fields(t *testing.T, text string) map[string]any {
	t.Helper()
	if text == "" {
		return nil
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The patch of a status holds what changed and nothing else, and no patch is made of
// what is right already.
func TestMerge(t *testing.T) {
	gone := Finding{Reason: "NotFound", Code: "IST0101", URL: "https://x", Text: "spec.host: no such host"}
	left := Finding{Reason: "Invalid", Code: "IST0106", Error: true, Text: "spec.http[0]: does nothing"}
	pending := gone
	pending.Pending = true
	const (
		since    = `"lastTransitionTime":"2026-01-01T00:00:00Z"`
		now      = `"lastTransitionTime":"2026-01-02T00:00:00Z"`
		says     = `{"type":"Reconciled","status":"False","reason":"NotFound","message":"spec.host: no such host",`
		messages = `"validationMessages":[{"type":{"name":"NotFound","code":"IST0101"},"level":"WARNING","documentationUrl":"https://x"}]`
		shows    = `{"conditions":[` + says + since + `,"observedGeneration":3}],"observedGeneration":3,` + messages + `}`
		others   = `{"type":"Programmed","status":"True"}`
	)
	for _, test := range []struct {
		what, status string
		findings     []Finding
		want         string // of the patch's status; "" is no patch
	}{
		{"nothing to say of an object without a status", "", nil, ""},
		{"nothing to say, and words of others", `{"conditions":[` + others + `],"validationMessages":[{"level":"INFO"}]}`, nil, ""},
		{"a first finding", "", []Finding{gone}, `{"conditions":[` + says + now + `,"observedGeneration":3}],"observedGeneration":3,` + messages + `}`},
		{"the same finding", shows, []Finding{gone}, ""},
		{"one that may be mended soon", "", []Finding{pending}, ""},
		{"one that may be mended soon, and is shown", shows, []Finding{pending}, ""},
		{"a finding beside the condition of another", `{"conditions":[` + others + `]}`, []Finding{gone},
			`{"conditions":[` + others + `,` + says + now + `,"observedGeneration":3}],"observedGeneration":3,` + messages + `}`},
		{"an error comes first, and the time stays", shows, []Finding{gone, left},
			`{"conditions":[{"type":"Reconciled","status":"False","reason":"Invalid","message":"spec.http[0]: does nothing\nspec.host: no such host",` + since + `,"observedGeneration":3}],` +
				`"validationMessages":[{"type":{"name":"Invalid","code":"IST0106"},"level":"ERROR"},{"type":{"name":"NotFound","code":"IST0101"},"level":"WARNING","documentationUrl":"https://x"}]}`},
		{"mended", shows, nil, `null`},
		{"mended, and words of others", `{"addresses":["x"],` + shows[1:], nil, `{"conditions":null,"observedGeneration":null,"validationMessages":null}`},
	} {
		status := fields(t, test.status)
		if g, ok := status["observedGeneration"]; ok { // JSON's numbers are not the API's
			status["observedGeneration"] = int64(g.(float64))
			c := status["conditions"].([]any)[0].(map[string]any)
			c["observedGeneration"] = int64(3)
		}
		change := patch("7", status, merge(status, 3, test.findings, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)))
		got := ""
		if change != nil {
			raw, err := json.Marshal(change["status"])
			if err != nil {
				t.Fatal(err)
			}
			var plain any
			_ = json.Unmarshal(raw, &plain)
			raw, _ = json.Marshal(plain)
			got = string(raw)
		}
		want := ""
		if test.want != "" {
			var plain any
			if err := json.Unmarshal([]byte(test.want), &plain); err != nil {
				t.Fatalf("%s: %v", test.what, err)
			}
			raw, _ := json.Marshal(plain)
			want = string(raw)
		}
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.what, got, want)
		}
	}
}
