// Package stats counts, under Envoy's names and Istio's.
//
// Metrics are plain structs of [Counter], [Gauge] and [Histogram] that the owner
// embeds or allocates and registers once, when configuration is built, with
// [Registry.Add]: the struct is the storage, names are put together only when
// somebody reads them. Counting is one atomic add; reading may happen at any time.
//
// The text form is that of Envoy's /stats, the Prometheus form that of
// /stats/prometheus, with the parts of a name that vary (cluster, listener,
// connection manager, response code) as labels. [Istio] holds Istio's standard metrics,
// one series per combination of labels, found again without allocating and bounded
// in number.
//
// HTTP serving belongs to proxy/admin.
package stats
