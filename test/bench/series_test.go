package main

import (
	"slices"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		why  string
		s    series
		want float64
	}{
		{"nothing was measured", nil, 0},
		{"one value", series{7}, 7},
		{"an outlier does not count", series{1, 1000, 2}, 2},
		{"an even number: between the two in the middle", series{4, 1, 3, 2}, 2.5},
	} {
		before := slices.Clone(c.s)
		if got := c.s.median(); got != c.want {
			t.Errorf("%s: median of %v is %v, want %v", c.why, c.s, got, c.want)
		}
		if !slices.Equal(c.s, before) {
			t.Errorf("%s: the order of rounds is gone: %v", c.why, c.s)
		}
	}
}

func TestSpreadOfRatios(t *testing.T) {
	ours, theirs := series{10, 20, 30}, series{40, 40, 0}
	r := ours.over(theirs)
	if !slices.Equal(r, series{0.25, 0.5}) {
		t.Errorf("ratios round by round are %v, want 0.25 and 0.5; a round of 0 is none", r)
	}
	if got := r.spread(); got != "0.25 to 0.50" {
		t.Errorf("spread is %q", got)
	}
	if got := (series{3}).spread(); got != "one value" {
		t.Errorf("spread of one value is %q", got)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.355: "0.35", 9.994: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100", 44123: "44123"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q: three digits", v, got, want)
		}
	}
}

func TestTables(t *testing.T) {
	rows := [][]string{{"what", "value"}, {"a longer name", "1"}, {"b", "22"}}
	want := []string{
		"what           value",
		"a longer name  1",
		"b              22",
	}
	if got := align(rows); !slices.Equal(got, want) {
		t.Errorf("aligned:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	want = []string{"| what | value |", "| --- | --- |", "| a longer name | 1 |", "| b | 22 |"}
	if got := markdown(rows); !slices.Equal(got, want) {
		t.Errorf("markdown:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestDifferencesRoundByRound(t *testing.T) {
	if got := (series{3, 5, 9}).minus(series{1, 6}); !slices.Equal(got, series{2, -1}) {
		t.Errorf("differences are %v, want 2 and -1", got)
	}
	if got := number(-0.355); got != "-0.35" && got != "-0.36" {
		t.Errorf("a negative value is written %q", got)
	}
}

// The median lies between the ranks that the binomial distribution gives for 95 of 100.
func TestBetween(t *testing.T) {
	var s series
	for i := range 21 {
		s = append(s, float64(21-i))
	}
	if least, most := s.between(); least != 7 || most != 15 {
		t.Errorf("the median of 1 to 21 lies between %v and %v, want 7 and 15", least, most)
	}
	if least, most := (series{3}).between(); least != 3 || most != 3 {
		t.Errorf("the median of 3 lies between %v and %v", least, most)
	}
}
