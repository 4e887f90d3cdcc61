package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A series is what repeated measurements of one thing gave.
type series []float64

// median of an even number of values is the mean of the two in the middle; of
// none it is 0.
func (s series) median() float64 {
	n := len(s)
	if n == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(s))
	return (v[(n-1)/2] + v[n/2]) / 2
}

// spread tells the least and the largest value.
func (s series) spread() string {
	if len(s) < 2 {
		return "one value"
	}
	return number(slices.Min(s)) + " to " + number(slices.Max(s))
}

// over divides value by value: rounds that ran next to each other saw the same
// noise.
func (s series) over(t series) (r series) {
	for i := range min(len(s), len(t)) {
		if t[i] > 0 {
			r = append(r, s[i]/t[i])
		}
	}
	return r
}

// minus subtracts value by value.
func (s series) minus(t series) (r series) {
	for i := range min(len(s), len(t)) {
		r = append(r, s[i]-t[i])
	}
	return r
}

// times multiplies every value.
func (s series) times(k float64) (r series) {
	for _, v := range s {
		r = append(r, v*k)
	}
	return r
}

// number writes three digits, as many as such measurements carry.
func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "any"
	case v < 0:
		return "-" + number(-v)
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// align pads the cells of rows, the first of which is the heading, so that
// columns stand below each other.
func align(rows [][]string) []string {
	var width []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(c))
		}
	}
	var lines []string
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r {
			fmt.Fprintf(&line, "%-*s  ", width[i], c)
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}

// markdown writes the same rows as a table of the handbook.
func markdown(rows [][]string) []string {
	var lines []string
	for i, r := range rows {
		lines = append(lines, "| "+strings.Join(r, " | ")+" |")
		if i == 0 {
			lines = append(lines, "|"+strings.Repeat(" --- |", len(r)))
		}
	}
	return lines
}
