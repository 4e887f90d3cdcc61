package orca

import (
	"encoding/base64"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mallamesh/malla/proxy/header"
)

// said is a response with one field.
func said(name, value string) *header.Map {
	m := new(header.Map)
	m.AddName([]byte(name), []byte(value))
	return m
}

// message is a report as gRPC's servers write it.
func message(rate, cpu float64) string {
	var b []byte
	for num, v := range map[protowire.Number]float64{fieldRate: rate, fieldCPU: cpu} {
		b = protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), math.Float64bits(v))
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

// A weight is the requests for all of the utilization, and errors count as utilization as far as there is a penalty for them.
func TestWeight(t *testing.T) {
	for _, c := range []struct {
		name, report string
		penalty      float64
		want         uint32 // 0: none
	}{
		{"the processor's", "TEXT rps_fractional=100,cpu_utilization=0.5", 0, 200},
		{"the application's goes before it", "TEXT rps_fractional=100,cpu_utilization=0.5,application_utilization=0.25", 0, 400},
		{"a metric that is asked for goes before both", "TEXT rps_fractional=100,application_utilization=0.25,named_metrics.queue=1", 0, 100},
		{"the greatest of those", "TEXT rps_fractional=100,mem_utilization=2,named_metrics.queue=1", 0, 50},
		{"errors without a penalty", "TEXT rps_fractional=100,cpu_utilization=0.5,eps=50", 0, 200},
		{"errors with one", "TEXT rps_fractional=100,cpu_utilization=0.5,eps=50", 1, 100},
		{"more than there is room for", "TEXT rps_fractional=1e300,cpu_utilization=0.5", 0, math.MaxUint32},
		{"no requests", "TEXT cpu_utilization=0.5", 0, 0},
		{"no utilization", "TEXT rps_fractional=100", 0, 0},
		{"no number", `JSON {"rps_fractional":"NaN","cpu_utilization":1}`, 0, 0},
		{"infinite errors", `JSON {"rps_fractional":1,"cpu_utilization":1,"eps":"-Infinity"}`, 1, 0},
		{"infinite both", `JSON {"rps_fractional":"Infinity","cpu_utilization":"Infinity"}`, 0, 0},
	} {
		var r Report
		if there, err := r.Read(said("endpoint-load-metrics", c.report), Metrics{"named_metrics.queue", "mem_utilization"}); !there || err != nil {
			t.Errorf("%s: read %v, %v", c.name, there, err)
			continue
		}
		if got, err := r.Weight(c.penalty); got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%s: weight %d, %v, want %d", c.name, got, err, c.want)
		}
	}
}

// More names than are looked at one by one are still found to stand there twice.
func TestManyNames(t *testing.T) {
	text := "TEXT rps_fractional=1"
	for c := 'a'; c <= 'z'; c++ {
		text += ",named_metrics." + string(c) + "=1"
	}
	var r Report
	if _, err := r.Read(said("endpoint-load-metrics", text), nil); err != nil {
		t.Errorf("26 metrics: %v", err)
	}
	if _, err := r.Read(said("endpoint-load-metrics", text+",named_metrics.y=1"), nil); err != errTwice {
		t.Errorf("one of 26 metrics again: %v, want %v", err, errTwice)
	}
}

// Reports as text and as messages cost no allocation, and neither does a response without one.
func TestReadAllocs(t *testing.T) {
	wanted := Metrics{"named_metrics.queue", "mem_utilization"}
	for name, m := range map[string]*header.Map{
		"text":    said("endpoint-load-metrics", "TEXT rps_fractional=100.25,cpu_utilization=0.5,application_utilization=0.5,named_metrics.queue=1"),
		"message": said("endpoint-load-metrics-bin", message(100, 0.5)),
		"none":    said("content-type", "text/plain"),
	} {
		var r Report
		if n := testing.AllocsPerRun(100, func() { r.Read(m, wanted) }); n != 0 {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	m := said("endpoint-load-metrics-bin", message(100, 0.5))
	var r Report
	for b.Loop() {
		r.Read(m, nil)
	}
}

// Whatever a host reports is read or refused.
func FuzzRead(f *testing.F) {
	f.Add("endpoint-load-metrics", "TEXT rps_fractional=10,cpu_utilization:0x1,named_metrics.a=1")
	f.Add("endpoint-load-metrics", `JSON {"rpsFractional":"1","namedMetrics":{"a":1},"utilization":null}`)
	f.Add("endpoint-load-metrics", "BIN "+message(10, 1))
	f.Add("endpoint-load-metrics-bin", message(10, 1)+"==")
	f.Fuzz(func(t *testing.T, name, value string) {
		if name != "endpoint-load-metrics" && name != "endpoint-load-metrics-bin" {
			return
		}
		var r Report
		if there, _ := r.Read(said(name, value), Metrics{"named_metrics.*", "cpu_utilization"}); !there {
			t.Fatal("a report is not there")
		}
		if w, err := r.Weight(1); err != nil && w != 0 {
			t.Fatalf("weight %d beside %v", w, err)
		}
	})
}
