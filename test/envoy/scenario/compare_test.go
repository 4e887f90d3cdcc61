package scenario

import "testing"

// A statistic that neither proxy has shows nothing, unless that is what the scenario is about.
func TestStatisticsOfNobody(t *testing.T) {
	of := func(value string) Notes {
		var n Notes
		n.Add("stat a", value)
		return n
	}
	for _, test := range []struct {
		none         []string
		envoy, malla string
		wants        int
	}{
		{nil, "1", "1", 0},
		{nil, NotThere, NotThere, 1},
		{nil, NotThere, "1", 1}, // which is an ordinary difference
		{[]string{"a"}, NotThere, NotThere, 0},
		{[]string{"a"}, "0", "0", 1},
	} {
		s := &Scenario{Stats: []string{"a"}, None: test.none}
		if got := Compare(s, of(test.envoy), of(test.malla)); len(got) != test.wants {
			t.Errorf("none %q, Envoy %s, malla %s: got %q, want %d mistakes", test.none, test.envoy, test.malla, got, test.wants)
		}
	}
}
