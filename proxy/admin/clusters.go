package admin

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/cluster"
)

// clusters serves /clusters?filter=<regex>&format=json.
func (s *Server) clusters(w http.ResponseWriter, r *http.Request) {
	run := s.Store.Runtime()
	names := slices.Sorted(maps.Keys(run.Clusters))
	shown, err := sieve(r.URL.Query().Get("filter"))
	if err != nil {
		fail(w, err.Error(), http.StatusBadRequest)
		return
	}
	if shown != nil {
		names = slices.DeleteFunc(names, func(n string) bool { return !shown.MatchString(n) })
		if err := shown.Err(); err != nil {
			failSlow(w, err)
			return
		}
	}
	if r.URL.Query().Get("format") == "json" {
		out := &adminv3.Clusters{}
		for _, n := range names {
			out.ClusterStatuses = append(out.ClusterStatuses, clusterStatus(run.Clusters[n]))
		}
		writeJSON(w, out)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	var b strings.Builder
	for _, n := range names {
		clusterText(&b, run.Clusters[n])
	}
	_, _ = w.Write([]byte(b.String())) // the client has gone
}

var priorities = []struct {
	name string
	is   cluster.Priority
}{{"default_priority", cluster.Default}, {"high_priority", cluster.High}}

// clusterText writes a cluster in lines of name::key::value.
func clusterText(b *strings.Builder, c *cluster.Cluster) {
	line := func(key string, value any) { fmt.Fprintf(b, "%s::%s::%v\n", c.Name, key, value) }
	line("observability_name", c.StatName)
	if c.Outlier != nil {
		for _, of := range [...]struct {
			word  string
			local bool
		}{{"", false}, {"local_origin_", true}} {
			r := c.SuccessRates(of.local)
			if r == nil {
				r = &cluster.Rates{Average: -1, Threshold: -1}
			}
			line("outlier::"+of.word+"success_rate_average", decimal(r.Average))
			line("outlier::"+of.word+"success_rate_ejection_threshold", decimal(r.Threshold))
		}
	}
	for _, p := range priorities {
		l := c.Limit(p.is)
		line(p.name+"::max_connections", l.Connections.Max())
		line(p.name+"::max_pending_requests", l.Pending.Max())
		line(p.name+"::max_requests", l.Requests.Max())
		line(p.name+"::max_retries", l.Retries.Max())
	}
	line("added_via_api", c.Added)
	if c.Kind == cluster.EDS && c.EDSName != c.Name {
		line("eds_service_name", c.EDSName)
	}
	for _, h := range c.Known() {
		for _, kv := range hostValues(h) {
			line(pipe.String(h.Addr)+"::"+kv[0], kv[1])
		}
	}
}

func hostValues(h *cluster.Host) [][2]string {
	return [][2]string{
		{"cx_active", itoa(h.Connections.Value())},
		{"cx_connect_fail", count(h.CxConnectFail.Value())},
		{"cx_total", count(h.CxTotal.Value())},
		{"rq_active", itoa(int64(h.Active.Load()))},
		{"rq_error", count(h.RqError.Value())},
		{"rq_pending_active", itoa(h.Pending.Value())},
		{"rq_success", count(h.RqSuccess.Value())},
		{"rq_timeout", count(h.RqTimeout.Value())},
		{"rq_total", count(h.RqTotal.Value())},
		{"hostname", h.Name},
		{"health_flags", healthFlags(h)},
		{"weight", count(uint64(h.Weight))},
		{"region", h.Locality.Region},
		{"zone", h.Locality.Zone},
		{"sub_zone", h.Locality.SubZone},
		{"canary", strconv.FormatBool(h.Metadata.Canary)},
		{"priority", count(uint64(h.Priority))},
		{"success_rate", successRate(h, false)},
		{"local_origin_success_rate", successRate(h, true)},
	}
}

// successRate is a rate as a word, Envoy's for none without one.
func successRate(h *cluster.Host, local bool) string {
	if r := h.SuccessRate(local); r != nil {
		return decimal(*r)
	}
	return "-1"
}

// decimal writes a number with six digits, as Envoy.
func decimal(n float64) string { return strconv.FormatFloat(n, 'g', 6, 64) }

func count(n uint64) string { return strconv.FormatUint(n, 10) }

// healthFlags are Envoy's words for what is wrong with a host.
func healthFlags(h *cluster.Host) string {
	var b strings.Builder
	add := func(flag cluster.Check, word string) {
		if h.Check()&flag != 0 {
			b.WriteString(word)
		}
	}
	add(cluster.CheckFailed, "/failed_active_hc")
	if h.Ejected() {
		b.WriteString("/failed_outlier_check")
	}
	switch h.Health {
	case cluster.Unhealthy, cluster.HealthTimeout:
		b.WriteString("/failed_eds_health")
	}
	add(cluster.CheckDegraded, "/degraded_active_hc")
	if h.Health == cluster.Degraded {
		b.WriteString("/degraded_eds_health")
	}
	add(cluster.CheckLeaving, "/pending_dynamic_removal")
	add(cluster.CheckPending, "/pending_active_hc")
	add(cluster.CheckImmediate, "/excluded_via_immediate_hc_fail")
	add(cluster.CheckTimeout, "/active_hc_timeout")
	if h.Health == cluster.Draining {
		b.WriteString("/eds_status_draining")
	}
	if h.FoundDegraded() {
		b.WriteString("/degraded_outlier_detection")
	}
	if b.Len() == 0 {
		return "healthy"
	}
	return b.String()
}

func clusterStatus(c *cluster.Cluster) *adminv3.ClusterStatus {
	out := &adminv3.ClusterStatus{Name: c.Name, AddedViaApi: c.Added, ObservabilityName: c.StatName, CircuitBreakers: &clusterv3.CircuitBreakers{}}
	if c.Kind == cluster.EDS {
		out.EdsServiceName = c.EDSName
	}
	for _, p := range priorities {
		l := c.Limit(p.is)
		t := &clusterv3.CircuitBreakers_Thresholds{MaxConnections: u32(l.Connections.Max()), MaxPendingRequests: u32(l.Pending.Max()), MaxRequests: u32(l.Requests.Max()), MaxRetries: u32(l.Retries.Max())}
		if p.is == cluster.High {
			t.Priority = corev3.RoutingPriority_HIGH
		}
		out.CircuitBreakers.Thresholds = append(out.CircuitBreakers.Thresholds, t)
	}
	if r := c.SuccessRates(false); r != nil {
		out.SuccessRateEjectionThreshold = &typev3.Percent{Value: r.Threshold}
	}
	if r := c.SuccessRates(true); r != nil {
		out.LocalOriginSuccessRateEjectionThreshold = &typev3.Percent{Value: r.Threshold}
	}
	for _, h := range c.Known() {
		out.HostStatuses = append(out.HostStatuses, hostStatus(h))
	}
	return out
}

func u32(n int64) *wrapperspb.UInt32Value { return wrapperspb.UInt32(uint32(n)) }

func hostStatus(h *cluster.Host) *adminv3.HostStatus {
	counter := func(name string, n uint64) *adminv3.SimpleMetric { return &adminv3.SimpleMetric{Name: name, Value: n} }
	gauge := func(name string, n int64) *adminv3.SimpleMetric {
		return &adminv3.SimpleMetric{Type: adminv3.SimpleMetric_GAUGE, Name: name, Value: uint64(max(n, 0))}
	}
	rate := func(local bool) *typev3.Percent {
		if r := h.SuccessRate(local); r != nil {
			return &typev3.Percent{Value: *r}
		}
		return nil
	}
	return &adminv3.HostStatus{
		SuccessRate: rate(false), LocalOriginSuccessRate: rate(true),
		Address: addressOf(h.Addr), Hostname: h.Name, Weight: h.Weight, Priority: h.Priority,
		Locality: &corev3.Locality{Region: h.Locality.Region, Zone: h.Locality.Zone, SubZone: h.Locality.SubZone},
		Stats: []*adminv3.SimpleMetric{
			counter("cx_connect_fail", h.CxConnectFail.Value()), counter("cx_total", h.CxTotal.Value()), counter("rq_error", h.RqError.Value()),
			counter("rq_success", h.RqSuccess.Value()), counter("rq_timeout", h.RqTimeout.Value()), counter("rq_total", h.RqTotal.Value()),
			gauge("cx_active", h.Connections.Value()), gauge("rq_active", int64(h.Active.Load())), gauge("rq_pending_active", h.Pending.Value()),
		},
		HealthStatus: &adminv3.HostHealthStatus{
			FailedActiveHealthCheck: h.Check()&cluster.CheckFailed != 0, FailedActiveDegradedCheck: h.Check()&cluster.CheckDegraded != 0,
			PendingDynamicRemoval: h.Check()&cluster.CheckLeaving != 0, PendingActiveHc: h.Check()&cluster.CheckPending != 0,
			ExcludedViaImmediateHcFail: h.Check()&cluster.CheckImmediate != 0, ActiveHcTimeout: h.Check()&cluster.CheckTimeout != 0,
			FailedOutlierCheck: h.Ejected(), FailedDegradedOutlierDetection: h.FoundDegraded(), EdsHealthStatus: edsHealth[h.Health],
		},
	}
}

var edsHealth = map[cluster.Health]corev3.HealthStatus{
	cluster.HealthUnknown: corev3.HealthStatus_HEALTHY, cluster.Healthy: corev3.HealthStatus_HEALTHY, cluster.Unhealthy: corev3.HealthStatus_UNHEALTHY,
	cluster.Draining: corev3.HealthStatus_DRAINING, cluster.HealthTimeout: corev3.HealthStatus_TIMEOUT, cluster.Degraded: corev3.HealthStatus_DEGRADED,
}
