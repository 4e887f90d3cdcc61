// Package orca reads what hosts report of their load in the headers or trailers of responses (Open Request Cost Aggregation).
//
// A report is in the header endpoint-load-metrics as text ("TEXT rps_fractional=10,cpu_utilization=0.5"), JSON or Base64 of
// the protobuf message ("JSON {...}", "BIN ..."), or in endpoint-load-metrics-bin as gRPC's servers write it, which wins. What is wrong anywhere
// makes a report of no use, as in Envoy: half a report is worse than none.
//
// Of maps of metrics only what the reader asks for is kept, so that text and binary reports of usual size are read without an allocation. What a
// weight follows from a report is here, too; which host it is for, and since when, is package cluster's.
package orca

import (
	"errors"
	"math"
	"strings"

	"github.com/mallamesh/malla/proxy/header"
)

// A Report is the load of a host.
type Report struct {
	CPU, Memory, Application float64 // utilization, 1 is all of it
	Rate, Errors             float64 // requests and errors in a second
	Most                     float64 // the greatest of the metrics that were asked for, 0: none of them was reported
}

// Metrics are names of metrics for utilization: of fields (cpu_utilization), of a value in a map (named_metrics.x) or of all of
// them (named_metrics.*).
type Metrics []string

// The errors.
var (
	errFormat  = errors.New("orca: want TEXT, JSON or BIN")
	errText    = errors.New("orca: want name=value")
	errName    = errors.New("orca: unknown metric")
	errTwice   = errors.New("orca: a metric stands there twice")
	errNumber  = errors.New("orca: want a number of 0 or more")
	errBinary  = errors.New("orca: want the Base64 of a message")
	errJSON    = errors.New("orca: want an object of numbers and maps")
	errNothing = errors.New("orca: rate or utilization is 0")
)

// Read reads the report in some headers. It reports whether there is one; the error says that it cannot be read.
func (r *Report) Read(m *header.Map, wanted Metrics) (bool, error) {
	*r = Report{}
	there, err := r.read(m, wanted)
	r.fields(wanted)
	return there, err
}

func (r *Report) read(m *header.Map, wanted Metrics) (bool, error) {
	switch {
	case m.Has(header.EndpointLoadMetricsBin):
		return true, r.binary(m.Get(header.EndpointLoadMetricsBin), wanted)
	case !m.Has(header.EndpointLoadMetrics):
		return false, nil
	}
	v := m.Get(header.EndpointLoadMetrics)
	if len(v) < 5 {
		return true, errFormat
	}
	switch rest := v[5:]; string(v[:5]) {
	case "TEXT ":
		return true, r.text(rest, wanted)
	case "JSON ":
		return true, r.json(rest, wanted)
	default:
		if string(v[:4]) == "BIN " {
			return true, r.binary(v[4:], wanted)
		}
	}
	return true, errFormat
}

// field returns where a field of a name goes, nil if there is no such field.
func (r *Report) field(name []byte) *float64 {
	switch string(name) {
	case "cpu_utilization":
		return &r.CPU
	case "mem_utilization":
		return &r.Memory
	case "application_utilization":
		return &r.Application
	case "rps_fractional":
		return &r.Rate
	case "eps":
		return &r.Errors
	}
	return nil
}

// The maps of a report.
const (
	inNamed       = "named_metrics."
	inUtilization = "utilization."
	inCost        = "request_cost."
)

// note keeps a value of a map if it is asked for.
func (r *Report) note(in string, key []byte, value float64, wanted Metrics) {
	for _, w := range wanted {
		if rest, ok := strings.CutPrefix(w, in); ok && (rest == string(key) || rest == "*") && value > r.Most {
			r.Most = value
		}
	}
}

// fields looks at the fields that are asked for among the metrics.
func (r *Report) fields(wanted Metrics) {
	for _, w := range wanted {
		if f := r.field([]byte(w)); f != nil && *f > r.Most {
			r.Most = *f
		}
	}
}

// Weight is how much of the requests a host should get: those that it does in a second for all of its utilization, to which
// errors, times the penalty, add their share of the requests. The error says that the report says nothing about that.
func (r *Report) Weight(penalty float64) (uint32, error) {
	if !(r.Rate > 0) {
		return 0, errNothing
	}
	utilization := r.CPU
	switch {
	case r.Most > 0:
		utilization = r.Most
	case r.Application > 0:
		utilization = r.Application
	}
	utilization += penalty * r.Errors / r.Rate
	if !(utilization > 0) {
		return 0, errNothing
	}
	w := r.Rate / utilization
	switch {
	case w > math.MaxUint32:
		return math.MaxUint32, nil
	case !(w >= 0):
		return 0, errNothing
	}
	return uint32(w), nil
}
