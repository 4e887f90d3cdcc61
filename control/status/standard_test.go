package status

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	if text == "" {
		return nil
	}
	var m map[string]any
	if err := utiljson.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAStandardStatusIsOursAloneOrShared(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	ours := []string{"malla.dev/gateway-controller"}
	for _, test := range []struct{ name, have, want, next string }{
		{
			"a condition keeps its time until it has another status; another's stays",
			`{"conditions":[{"type":"Accepted","status":"True","lastTransitionTime":"2025-01-01T00:00:00Z"},{"type":"Programmed","status":"Unknown","lastTransitionTime":"1970-01-01T00:00:00Z"},{"type":"example.com/Seen","status":"True"}]}`,
			`{"conditions":[{"type":"Accepted","status":"True","observedGeneration":2},{"type":"Programmed","status":"True"}]}`,
			`{"conditions":[{"type":"Accepted","status":"True","observedGeneration":2,"lastTransitionTime":"2025-01-01T00:00:00Z"},{"type":"Programmed","status":"True","lastTransitionTime":"2026-05-01T00:00:00Z"},{"type":"example.com/Seen","status":"True"}]}`,
		},
		{
			"listeners are told apart by name, and what is said no more goes",
			`{"addresses":[{"value":"10.0.0.1"}],"listeners":[{"name":"a","conditions":[{"type":"Accepted","status":"True","lastTransitionTime":"2025-01-01T00:00:00Z"}]},{"name":"b","conditions":[]}]}`,
			`{"listeners":[{"name":"a","attachedRoutes":3,"conditions":[{"type":"Accepted","status":"True"}]}]}`,
			`{"listeners":[{"name":"a","attachedRoutes":3,"conditions":[{"type":"Accepted","status":"True","lastTransitionTime":"2025-01-01T00:00:00Z"}]}]}`,
		},
		{
			"another controller's entry about a route stays",
			`{"parents":[{"controllerName":"example.com/x","parentRef":{"name":"a"},"conditions":[]},{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"gone"},"conditions":[]}]}`,
			`{"parents":[{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"b"},"conditions":[{"type":"Accepted","status":"False"}]}]}`,
			`{"parents":[{"controllerName":"example.com/x","parentRef":{"name":"a"},"conditions":[]},{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"b"},"conditions":[{"type":"Accepted","status":"False","lastTransitionTime":"2026-05-01T00:00:00Z"}]}]}`,
		},
		{
			"entries keep their places, since others may want to be last, too",
			`{"parents":[{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"b"},"conditions":[]},{"controllerName":"example.com/x","parentRef":{"name":"a"},"conditions":[]}]}`,
			`{"parents":[{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"c"},"conditions":[]},{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"b"},"conditions":[]}]}`,
			`{"parents":[{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"b"},"conditions":[]},{"controllerName":"example.com/x","parentRef":{"name":"a"},"conditions":[]},{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"c"},"conditions":[]}]}`,
		},
		{
			"a route that is ours no more loses our entries only",
			`{"parents":[{"controllerName":"example.com/x","parentRef":{"name":"a"},"conditions":[]},{"controllerName":"malla.dev/gateway-controller","parentRef":{"name":"b"},"conditions":[]}]}`,
			``,
			`{"parents":[{"controllerName":"example.com/x","parentRef":{"name":"a"},"conditions":[]}]}`,
		},
		{"a Gateway that is ours no more is left as it is", `{"conditions":[{"type":"Accepted","status":"True"}]}`, ``, `{"conditions":[{"type":"Accepted","status":"True"}]}`},
	} {
		if diff := cmp.Diff(tree(t, test.next), settle(tree(t, test.have), tree(t, test.want), ours, now)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.name, diff)
		}
	}
}

// Who serves an object no more takes back what it has said of it, and leaves alone what another has said since.
func TestWhatIsOursNoMoreIsTakenBack(t *testing.T) {
	const here = `{"loadBalancer":{"ingress":[{"ip":"10.0.0.1"}]}}`
	for _, test := range []struct{ have, next string }{
		{here, `{}`},
		{`{"loadBalancer":{"ingress":[{"ip":"10.0.0.2"}]}}`, `{"loadBalancer":{"ingress":[{"ip":"10.0.0.2"}]}}`},
		{`{"loadBalancer":{"ingress":[{"ip":"10.0.0.1","ports":[]}]}}`, `{"loadBalancer":{"ingress":[{"ip":"10.0.0.1","ports":[]}]}}`},
		{`{}`, `{}`},
	} {
		next := settle(tree(t, test.have), nil, nil, time.Unix(0, 0))
		withdraw(next, tree(t, here))
		if diff := cmp.Diff(tree(t, test.next), next); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.have, diff)
		}
	}
}

// There is room for so many entries of all controllers together; one too many and the API server would take none.
func TestEntriesAreAsManyAsFit(t *testing.T) {
	entries := func(controller string, n int) (out []any) {
		for i := range n {
			out = append(out, map[string]any{"controllerName": controller, "parentRef": map[string]any{"name": fmt.Sprint(controller, i)}, "conditions": []any{}})
		}
		return out
	}
	have := map[string]any{"parents": entries("example.com/x", 3)}
	want := map[string]any{"parents": entries("malla.dev/gateway-controller", 32)}
	next := settle(have, want, []string{"malla.dev/gateway-controller"}, time.Unix(0, 0))
	got := next["parents"].([]any)
	if len(got) != 32 || !reflect.DeepEqual(got[:3], have["parents"]) {
		t.Errorf("%d entries, the first of them %v", len(got), got[0])
	}
	if again := settle(next, want, []string{"malla.dev/gateway-controller"}, time.Unix(9, 0)); !reflect.DeepEqual(again, next) {
		t.Error("a second look writes again")
	}
}
