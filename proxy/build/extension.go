package build

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"time"

	structv3 "github.com/cncf/xds/go/xds/type/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/stats"
)

// tcpFaultType names the one extension of our own. It has no message: it comes as a TypedStruct, which
// every control plane and every EnvoyFilter can write.
const tcpFaultType = "type.googleapis.com/malla.filters.network.tcp_fault.v1.TcpFault"

// extension reads a filter that is none of Envoy's.
func (r *listenerReader) extension(m *structv3.TypedStruct, at *field.Path) listen.Gate {
	if m.GetTypeUrl() != tcpFaultType {
		r.errs.Addf(at.Child("type_url"), "found %q, want %s", m.GetTypeUrl(), tcpFaultType)
		return nil
	}
	return r.tcpFault(m, at.Child("value"))
}

// tcpFault is what stands in a tcp_fault's value; docs/tcp-fault.md explains it.
type tcpFault struct {
	StatPrefix string `json:"stat_prefix"`
	Refuse     struct {
		Percentage float64 `json:"percentage"`
	} `json:"refuse"`
	Delay struct {
		Percentage float64 `json:"percentage"`
		FixedDelay string  `json:"fixed_delay"`
	} `json:"delay"`
	Reset struct {
		Percentage float64 `json:"percentage"`
		AfterBytes float64 `json:"after_bytes"`
	} `json:"reset"`
}

func (r *listenerReader) tcpFault(m *structv3.TypedStruct, at *field.Path) listen.Gate {
	var v tcpFault
	text, err := json.Marshal(m.GetValue().AsMap())
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err = d.Decode(&v)
	}
	if err != nil {
		r.errs.Addf(at, "%s", strings.TrimPrefix(err.Error(), "json: "))
		return nil
	}
	f := &listen.Fault{Refuse: v.Refuse.Percentage, Delay: v.Delay.Percentage, Reset: v.Reset.Percentage, After: int(min(v.Reset.AfterBytes, math.MaxInt32))}
	for _, p := range []struct {
		name    string
		percent float64
	}{{"refuse", f.Refuse}, {"delay", f.Delay}, {"reset", f.Reset}} {
		if !(p.percent >= 0 && p.percent <= 100) {
			r.errs.Addf(at.Child(p.name).Child("percentage"), "found %v, want 0 to 100", p.percent)
		}
	}
	if f.After < 0 {
		r.errs.Addf(at.Child("reset").Child("after_bytes"), "found %v, want 0 or more", v.Reset.AfterBytes)
	}
	if f.Delay > 0 {
		if f.Wait, err = time.ParseDuration(v.Delay.FixedDelay); err != nil || f.Wait <= 0 {
			r.errs.Addf(at.Child("delay").Child("fixed_delay"), "found %q, want a time span such as 0.2s", v.Delay.FixedDelay)
		}
	}
	f.Stats = shared[stats.TCPFault](r, "tcp_fault."+v.StatPrefix+".")
	return f
}
