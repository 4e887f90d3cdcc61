package healthcheck

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
)

// An eventKind is one of the things that are told of a host.
type eventKind uint8

const (
	eject eventKind = iota
	addHealthy
	failed
	success
	becameDegraded
	noLongerDegraded
)

type event struct {
	kind    eventKind
	failure Failure
	status  int // of HTTP
	first   bool
}

// appendLine appends the event as a line of JSON, as Envoy's file sink writes envoy.data.core.v3.HealthCheckEvent:
// fields stand in the order of their numbers.
func (e event) appendLine(b []byte, checker, cluster string, h *cluster.Host, at time.Time) []byte {
	b = append(b, `{"health_checker_type":"`...)
	b = append(b, checker...)
	b = append(b, `","host":`...)
	if path, ok := pipe.Path(h.Addr); ok {
		b = appendString(append(b, `{"pipe":{"path":`...), path)
		b = append(b, `,"mode":0}}`...)
	} else {
		b = append(b, `{"socket_address":{"protocol":"TCP","address":"`...)
		b = h.Addr.Addr().AppendTo(b)
		b = append(b, `","port_value":`...)
		b = strconv.AppendUint(b, uint64(h.Addr.Port()), 10)
		b = append(b, `,"resolver_name":"","ipv4_compat":false,"network_namespace_filepath":""}}`...)
	}
	b = append(b, `,"cluster_name":`...)
	b = appendString(b, cluster)
	if e.kind == eject || e.kind == addHealthy {
		b = e.appendBody(append(b, ','))
	}
	b = append(b, `,"timestamp":"`...)
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	if e.kind == failed || e.kind == becameDegraded || e.kind == noLongerDegraded {
		b = e.appendBody(append(b, ','))
	}
	if spaces := h.Metadata.All.All(); len(spaces) > 0 {
		b = append(b, `,"metadata":{"filter_metadata":{`...)
		for i, name := range slices.Sorted(maps.Keys(spaces)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = access.AppendJSON(append(appendString(b, name), ':'), spaces[name])
		}
		b = append(b, `},"typed_filter_metadata":{}}`...)
	}
	b = append(b, `,"locality":{"region":`...)
	b = appendString(b, h.Locality.Region)
	b = append(b, `,"zone":`...)
	b = appendString(b, h.Locality.Zone)
	b = append(b, `,"sub_zone":`...)
	b = append(appendString(b, h.Locality.SubZone), '}')
	if e.kind == success {
		b = e.appendBody(append(b, ','))
	}
	return append(b, "}\n"...)
}

func (e event) appendBody(b []byte) []byte {
	switch e.kind {
	case eject:
		b = append(b, `"eject_unhealthy_event":{"failure_type":"`...)
		b = append(append(b, e.failure.String()...), `","http_status_code":`...)
		return append(strconv.AppendInt(b, int64(e.status), 10), '}')
	case addHealthy:
		b = append(b, `"add_healthy_event":{"first_check":`...)
		return append(strconv.AppendBool(b, e.first), '}')
	case failed:
		b = append(b, `"health_check_failure_event":{"failure_type":"`...)
		b = append(append(b, e.failure.String()...), `","first_check":`...)
		b = append(strconv.AppendBool(b, e.first), `,"http_status_code":`...)
		return append(strconv.AppendInt(b, int64(e.status), 10), '}')
	case success:
		return append(b, `"successful_health_check_event":{}`...)
	case becameDegraded:
		return append(b, `"degraded_healthy_host":{}`...)
	}
	return append(b, `"no_longer_degraded_host":{}`...)
}

func appendString(b []byte, s string) []byte {
	text, _ := json.Marshal(s) // a string always can be
	return append(b, text...)
}
