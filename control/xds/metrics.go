package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the server's, under the names that Istio's dashboards read.
type Metrics struct {
	clients     prometheus.Gauge
	pushes      *prometheus.CounterVec
	pushTime    *prometheus.HistogramVec
	rejects     *prometheus.CounterVec
	convergence prometheus.Histogram
}

// NewMetrics registers the server's metrics.
func NewMetrics(r prometheus.Registerer, version string) *Metrics {
	buckets := []float64{.001, .005, .01, .05, .1, .3, .5, 1, 3, 5, 10, 20, 30}
	m := &Metrics{
		clients: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_xds", Help: "Connected proxies.",
			ConstLabels: prometheus.Labels{"version": version}}),
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pilot_xds_pushes",
			Help: "Responses sent, by type."}, []string{"type"}),
		pushTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pilot_xds_push_time",
			Help: "Seconds to make and send one response, by type.", Buckets: buckets}, []string{"type"}),
		rejects: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pilot_total_xds_rejects",
			Help: "Responses that a proxy refused, by type."}, []string{"type"}),
		convergence: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pilot_proxy_convergence_time",
			Help: "Seconds from a change at its source until a proxy acknowledged all of it.", Buckets: buckets}),
	}
	r.MustRegister(m.clients, m.pushes, m.pushTime, m.rejects, m.convergence)
	return m
}

func (m *Metrics) connected(n int) { m.clients.Set(float64(n)) }

func (m *Metrics) pushed(typeURL string, took time.Duration) {
	t := lower(typeURL)
	m.pushes.WithLabelValues(t).Inc()
	m.pushTime.WithLabelValues(t).Observe(took.Seconds())
}

func (m *Metrics) refused(typeURL string) { m.rejects.WithLabelValues(lower(typeURL)).Inc() }

func (m *Metrics) converged(took time.Duration) { m.convergence.Observe(took.Seconds()) }

// lower returns cds, eds, ...: the spelling of the label.
func lower(typeURL string) string {
	b := []byte(Short(typeURL))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
