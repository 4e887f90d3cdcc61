package cluster

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/mallamesh/malla/base/pipe"
)

// A Journal takes lines of events in, without waiting, from any goroutine.
type Journal interface{ Append(line []byte) }

// names of what ejects, by detector, as envoy.data.cluster.v3.OutlierEjectionType has them.
var detectorNames = [...]string{
	"CONSECUTIVE_5XX", "CONSECUTIVE_GATEWAY_FAILURE", "CONSECUTIVE_LOCAL_ORIGIN_FAILURE", "SUCCESS_RATE", "SUCCESS_RATE_LOCAL_ORIGIN",
	"FAILURE_PERCENTAGE", "FAILURE_PERCENTAGE_LOCAL_ORIGIN", "DEGRADED",
}

// A finding is what has a host ejected: who found it, and by what rates.
type finding struct {
	by                      detector
	success, average, limit float64 // in percent; of the detectors by rate
}

// tellEject writes that a host was ejected, or would have been, as Envoy's event log does.
func (c *Cluster) tellEject(h *Host, f finding, enforced bool, now time.Time) {
	if c.OutlierLog == nil {
		return
	}
	b := c.outlierEvent(h, detectorNames[f.by], "EJECT", h.outlier.ejected.ended, enforced, now)
	switch f.by {
	case bySuccessRate, byLocalSuccessRate:
		b = append(b, `,"eject_success_rate_event":{"host_success_rate":`...)
		b = strconv.AppendUint(b, uint64(f.success), 10)
		b = append(b, `,"cluster_average_success_rate":`...)
		b = strconv.AppendUint(b, uint64(f.average), 10)
		b = append(b, `,"cluster_success_rate_ejection_threshold":`...)
		b = append(strconv.AppendUint(b, uint64(max(f.limit, 0)), 10), '}')
	case byFailureRate, byLocalFailureRate:
		b = append(b, `,"eject_failure_percentage_event":{"host_success_rate":`...)
		b = append(strconv.AppendUint(b, uint64(f.success), 10), '}')
	default:
		b = append(b, `,"eject_consecutive_event":{}`...)
	}
	c.OutlierLog.Append(append(b, "}\n"...))
}

// tellUneject writes that a host is back, or no longer degraded: in Envoy the two are one event.
func (c *Cluster) tellUneject(h *Host, now time.Time) {
	if c.OutlierLog != nil {
		c.OutlierLog.Append(append(c.outlierEvent(h, detectorNames[by5xx], "UNEJECT", h.outlier.ejected.began, false, now), "}\n"...))
	}
}

// outlierEvent is what all events have: envoy.data.cluster.v3.OutlierDetectionEvent with its fields in the order of their numbers.
func (c *Cluster) outlierEvent(h *Host, kind, action string, last time.Time, enforced bool, now time.Time) []byte {
	b := append([]byte(`{"type":"`), kind...)
	b = append(b, `","timestamp":"`...)
	b = append(time.Now().UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z"), '"')
	if !last.IsZero() {
		b = append(b, `,"secs_since_last_action":"`...)
		b = append(strconv.AppendInt(b, int64(now.Sub(last)/time.Second), 10), '"')
	}
	name, _ := json.Marshal(c.Name) // a string always can be
	b = append(append(b, `,"cluster_name":`...), name...)
	b = append(append(b, `,"upstream_url":"`...), pipe.String(h.Addr)...)
	b = append(append(b, `","action":"`...), action...)
	b = append(b, `","num_ejections":`...)
	b = strconv.AppendUint(b, uint64(h.outlier.ejections), 10)
	return strconv.AppendBool(append(b, `,"enforced":`...), enforced)
}
