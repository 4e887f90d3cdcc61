package stats

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func filled(istio bool) *Registry {
	r := NewRegistry(istio)
	c, _ := r.Cluster("outbound|80||a.default.svc.cluster.local")
	c.UpstreamRqTotal.Add(3)
	c.UpstreamRq.Add(200)
	c.UpstreamRq.Add(200)
	c.UpstreamRq.Add(503)
	c.UpstreamRqTime.Record(7)
	c.DefaultBreakers.CxOpen.Set(1)
	h, _ := r.HTTP("outbound_0.0.0.0_80")
	h.DownstreamRq.Add(200)
	l, _ := r.Listener(FormatAddress("0.0.0.0:15006"))
	l.DownstreamCxTotal.Inc()
	lh, _ := r.ListenerHTTP("0.0.0.0_15006", "inbound")
	lh.DownstreamRq.Add(404)
	s := new(Server)
	s.Live.Set(1)
	r.Add("server.", s)
	return r
}

func TestText(t *testing.T) {
	var b strings.Builder
	if err := filled(true).WriteText(&b, Options{UsedOnly: true}); err != nil {
		t.Fatal(err)
	}
	const want = `cluster.outbound|80||a.default.svc.cluster.local.circuit_breakers.default.cx_open: 1
cluster.outbound|80||a.default.svc.cluster.local.upstream_rq_200: 2
cluster.outbound|80||a.default.svc.cluster.local.upstream_rq_2xx: 2
cluster.outbound|80||a.default.svc.cluster.local.upstream_rq_503: 1
cluster.outbound|80||a.default.svc.cluster.local.upstream_rq_5xx: 1
cluster.outbound|80||a.default.svc.cluster.local.upstream_rq_total: 3
http.outbound_0.0.0.0_80.downstream_rq_2xx: 1
listener.0.0.0.0_15006.downstream_cx_total: 1
listener.0.0.0.0_15006.http.inbound.downstream_rq_4xx: 1
server.live: 1
cluster.outbound|80||a.default.svc.cluster.local.upstream_rq_time: P0(nan,5) P25(nan,6.25) P50(nan,7.5) P75(nan,8.75) P90(nan,9.5) P95(nan,9.75) P99(nan,9.95) P99.5(nan,9.975) P99.9(nan,9.995) P100(nan,10)
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// Who asks for buckets is shown how many values each bound is not below, or how many each bucket has, as by Envoy.
func TestShownBuckets(t *testing.T) {
	r := NewRegistry(false)
	set := new(struct {
		Time Histogram `stat:"time"`
		None Histogram `stat:"none"`
	})
	r.Add("a.", set)
	for _, v := range []uint64{0, 7, 8, 2_000_000} {
		set.Time.Record(v)
	}
	rest := func(n int) string {
		return fmt.Sprintf("B25(nan,%[1]d) B50(nan,%[1]d) B100(nan,%[1]d) B250(nan,%[1]d) B500(nan,%[1]d) B1000(nan,%[1]d) B2500(nan,%[1]d) B5000(nan,%[1]d) B10000(nan,%[1]d) B30000(nan,%[1]d) B60000(nan,%[1]d) B300000(nan,%[1]d) B600000(nan,%[1]d) B1.8e+06(nan,%[1]d)", n)
	}
	for what, want := range map[Buckets]string{
		Cumulative: "a.none: No recorded values\na.time: B0.5(nan,1) B1(nan,1) B5(nan,1) B10(nan,3) " + rest(3) + " B3.6e+06(nan,4)\n",
		Disjoint:   "a.none: No recorded values\na.time: B0.5(nan,1) B1(nan,0) B5(nan,0) B10(nan,2) " + rest(0) + " B3.6e+06(nan,1)\n",
	} {
		var text, object strings.Builder
		r.WriteText(&text, Options{Buckets: what})
		if text.String() != want {
			t.Errorf("got\n%s\nwant\n%s", text.String(), want)
		}
		var got struct {
			Stats []struct {
				Histograms []struct {
					Name    string
					Buckets []struct {
						Bound      float64 `json:"upper_bound"`
						Cumulative int
					}
				}
			}
		}
		r.WriteJSON(&object, Options{Buckets: what})
		if err := json.Unmarshal([]byte(object.String()), &got); err != nil {
			t.Fatalf("%v: %s", err, object.String())
		}
		list := got.Stats[0].Histograms
		if len(list) != 2 || list[1].Name != "a.time" || len(list[1].Buckets) != len(bounds) {
			t.Fatalf("got %+v", list)
		}
		if b := list[1].Buckets[3]; b.Bound != 10 || b.Cumulative != map[Buckets]int{Cumulative: 3, Disjoint: 2}[what] {
			t.Errorf("the bucket up to 10 is %+v", b)
		}
	}
}

func TestFilterAndUnused(t *testing.T) {
	r := filled(true)
	var b strings.Builder
	r.WriteText(&b, Options{Filter: regexp.MustCompile(`\.upstream_rq_(total|timeout)$`)})
	const want = "cluster.outbound|80||a.default.svc.cluster.local.upstream_rq_timeout: 0\ncluster.outbound|80||a.default.svc.cluster.local.upstream_rq_total: 3\n"
	if b.String() != want {
		t.Errorf("filtered:\n%s", b.String())
	}
	b.Reset()
	r.WriteText(&b, Options{})
	for _, line := range []string{"http.outbound_0.0.0.0_80.downstream_rq_5xx: 0\n", "downstream_cx_length_ms: No recorded values\n"} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("%q is missing", line)
		}
	}
	b.Reset()
	r.WriteJSON(&b, Options{})
	if !json.Valid([]byte(b.String())) {
		t.Errorf("not JSON: %s", b.String())
	}
}

// parse reads the text exposition format with Prometheus' own parser.
func parse(t *testing.T, text string) map[string]string {
	t.Helper()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	got := map[string]string{}
	for name, f := range families {
		for _, m := range f.Metric {
			labels := ""
			for _, l := range m.Label {
				labels += fmt.Sprintf("%s=%s;", l.GetName(), l.GetValue())
			}
			switch {
			case m.Counter != nil:
				got[name+"{"+labels+"}"] = fmt.Sprint(m.Counter.GetValue())
			case m.Gauge != nil:
				got[name+"{"+labels+"}"] = fmt.Sprint(m.Gauge.GetValue())
			case m.Histogram != nil:
				got[name+"{"+labels+"}"] = fmt.Sprint(m.Histogram.GetSampleCount(), " ", m.Histogram.GetSampleSum())
			}
		}
	}
	return got
}

func TestPrometheus(t *testing.T) {
	for istio, want := range map[bool]map[string]string{
		true: {
			"envoy_cluster_upstream_rq_total{cluster_name=outbound|80||a.default.svc.cluster.local;}":                                      "3",
			"envoy_cluster_upstream_rq{response_code=503;cluster_name=outbound|80||a.default.svc.cluster.local;}":                          "1",
			"envoy_cluster_upstream_rq_xx{response_code_class=2;cluster_name=outbound|80||a.default.svc.cluster.local;}":                   "2",
			"envoy_cluster_circuit_breakers_default_cx_open{cluster_name=outbound|80||a.default.svc.cluster.local;}":                       "1",
			"envoy_cluster_upstream_rq_time{cluster_name=outbound|80||a.default.svc.cluster.local;}":                                       "1 7",
			"envoy_http_downstream_rq_xx{response_code_class=2;http_conn_manager_prefix=outbound_0.0.0.0_80;}":                             "1",
			"envoy_listener_downstream_cx_total{listener_address=0.0.0.0_15006;}":                                                          "1",
			"envoy_listener_http_downstream_rq_xx{response_code_class=4;http_conn_manager_prefix=inbound;listener_address=0.0.0.0_15006;}": "1",
			"envoy_server_live{}": "1",
		},
		false: {
			"envoy_cluster_upstream_rq_total{envoy_cluster_name=outbound|80||a.default.svc.cluster.local;}":                   "3",
			"envoy_cluster_upstream_rq{envoy_response_code=503;envoy_cluster_name=outbound|80||a.default.svc.cluster.local;}": "1",
		},
	} {
		var b strings.Builder
		if err := filled(istio).WritePrometheus(&b, Options{UsedOnly: true}); err != nil {
			t.Fatal(err)
		}
		got := parse(t, b.String())
		for name, v := range want {
			if got[name] != v {
				t.Errorf("istio labels %v: %s = %q, want %s", istio, name, got[name], v)
			}
		}
	}
}

// A set is shared by all who ask for it and goes with the last.
func TestScopes(t *testing.T) {
	r := NewRegistry(true)
	a, s1 := r.Cluster("a")
	b, s2 := r.Cluster("a")
	if a != b {
		t.Fatal("two sets under one name")
	}
	a.UpstreamRqTotal.Inc()
	s1.Close()
	if text := dump(r); !strings.Contains(text, "cluster.a.upstream_rq_total: 1") {
		t.Error("a set goes while it is used")
	}
	s2.Close()
	if text := dump(r); text != "" {
		t.Errorf("a set stays when nobody uses it: %s", text)
	}
}

func dump(r *Registry) string {
	var b strings.Builder
	r.WriteText(&b, Options{UsedOnly: true})
	return b.String()
}

func TestBuckets(t *testing.T) {
	for v, want := range map[uint64]int{0: 0, 1: 1, 2: 2, 5: 2, 6: 3, 10: 3, 3600000: 18, 3600001: 19} {
		if got := bucketOf(v); got != want {
			t.Errorf("%d is in bucket %d, want %d", v, got, want)
		}
	}
}

func TestIstioLabels(t *testing.T) {
	local := Peer{Workload: "reviews-v1", Namespace: "default", CanonicalService: "reviews", CanonicalRevision: "v1", App: "reviews", Version: "v1", Cluster: "Kubernetes"}
	m := NewIstio(IstioOptions{Local: local, Version: "1.0", Flags: func(uint64) string { return "UF" }})
	c := m.NewCache()
	ratings := m.Peer(Peer{Workload: "ratings-v1", Namespace: "said", CanonicalService: "ratings", Cluster: "Kubernetes", Principal: "spiffe://cluster.local/ns/proven/sa/ratings"})
	dest := m.Destination(Destination{"ratings.default.svc.cluster.local", "ratings", "default"})
	c.HTTP(Key{Peer: ratings, Destination: dest, Code: 200, GRPCStatus: -1, Local: "spiffe://cluster.local/ns/default/sa/reviews"}).Requests.Inc()
	c.HTTP(Key{Reporter: Dest, Code: 503, GRPCStatus: 14, Protocol: ProtocolGRPC, Security: SecurityNone, Flags: 1}).Duration.Record(3)
	c.TCP(Key{Reporter: Dest, Security: SecurityMutualTLS, Code: 9}).Opened.Inc()
	text := string(m.AppendPrometheus(nil, Options{}, nil))
	for _, want := range []string{
		// What a source reports: itself first; the namespace of the peer is the one its certificate proves.
		`istio_requests_total{reporter="source",source_workload="reviews-v1",source_canonical_service="reviews",source_canonical_revision="v1",source_workload_namespace="default",source_principal="spiffe://cluster.local/ns/default/sa/reviews",source_app="reviews",source_version="v1",source_cluster="Kubernetes",destination_workload="ratings-v1",destination_workload_namespace="proven",destination_principal="spiffe://cluster.local/ns/proven/sa/ratings",destination_app="unknown",destination_version="unknown",destination_service="ratings.default.svc.cluster.local",destination_canonical_service="ratings",destination_canonical_revision="latest",destination_service_name="ratings",destination_service_namespace="default",destination_cluster="Kubernetes",request_protocol="http",response_code="200",grpc_response_status="",response_flags="-",connection_security_policy="unknown"} 1`,
		// What a destination reports of a peer that it knows nothing of.
		`istio_request_duration_milliseconds_count{reporter="destination",source_workload="unknown",source_canonical_service="unknown",source_canonical_revision="latest",source_workload_namespace="unknown",source_principal="unknown",source_app="unknown",source_version="unknown",source_cluster="unknown",destination_workload="reviews-v1",destination_workload_namespace="default",destination_principal="unknown",destination_app="reviews",destination_version="v1",destination_service="reviews",destination_canonical_service="reviews",destination_canonical_revision="v1",destination_service_name="reviews",destination_service_namespace="default",destination_cluster="Kubernetes",request_protocol="grpc",response_code="503",grpc_response_status="14",response_flags="UF",connection_security_policy="none"} 1`,
		`request_protocol="tcp",response_flags="-",connection_security_policy="mutual_tls"} 1`, // a connection has no code
		`istio_build{component="proxy",tag="1.0"} 1`,
		`le="0.5"} 0`, `le="5"} 1`, `le="3600000"} 1`, `le="+Inf"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nis missing in\n%s", want, text)
		}
	}
	parse(t, text)
}

// A client that invents names costs a bounded number of series.
func TestIstioOverflow(t *testing.T) {
	m := NewIstio(IstioOptions{Limit: 10})
	c := m.NewCache()
	for i := range 1000 {
		d := c.Host(fmt.Appendf(nil, "host-%d", i), "")
		c.HTTP(Key{Destination: d, Code: uint16(200 + i%100)}).Requests.Inc()
	}
	if len(m.dests) > 10 || len(m.http) > 12 {
		t.Errorf("%d destinations and %d series, want at most 10 and a few", len(m.dests), len(m.http))
	}
	total := uint64(0)
	for _, s := range m.http {
		total += s.Requests.Value()
	}
	if total != 1000 {
		t.Errorf("%d requests counted, want all 1000", total)
	}
}

func TestHotPathAllocs(t *testing.T) {
	m := NewIstio(IstioOptions{})
	c := m.NewCache()
	p, d := m.Peer(Peer{Workload: "a"}), m.Destination(Destination{Name: "b"})
	r := NewRegistry(true)
	cl, _ := r.Cluster("a")
	run := func() {
		s := c.HTTP(Key{Peer: p, Destination: d, Code: 200, GRPCStatus: -1, Local: "spiffe://x"})
		s.Requests.Inc()
		s.Duration.Record(3)
		c.Host([]byte("host"), "PassthroughCluster")
		cl.UpstreamRq.Add(200)
		cl.UpstreamRqTime.Record(12)
	}
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("counting a request allocates %v times, want 0", n)
	}
}

func BenchmarkIstio(b *testing.B) {
	m := NewIstio(IstioOptions{})
	c := m.NewCache()
	k := Key{Peer: m.Peer(Peer{Workload: "a"}), Destination: m.Destination(Destination{Name: "b"}), Code: 200, GRPCStatus: -1, Local: "spiffe://cluster.local/ns/default/sa/reviews"}
	for b.Loop() {
		s := c.HTTP(k)
		s.Requests.Inc()
		s.Duration.Record(3)
		s.RequestBytes.Record(300)
		s.ResponseBytes.Record(1000)
	}
}

// Counting and reading at the same time is safe (run with -race).
func TestConcurrentScrape(t *testing.T) {
	r := NewRegistry(true)
	m := NewIstio(IstioOptions{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			c := m.NewCache()
			for n := range 500 {
				set, scope := r.Cluster(fmt.Sprint("c", n%5))
				set.UpstreamRq.Add(200 + (n+i)%50)
				c.HTTP(Key{Code: uint16(n % 20)}).Requests.Inc()
				scope.Close()
			}
		})
	}
	for range 20 {
		var b strings.Builder
		r.WritePrometheus(&b, Options{}, all(m))
		r.WriteText(&b, Options{})
	}
	wg.Wait()
}

// pieces is a writer that knows how much it was given at a time.
type pieces struct {
	strings.Builder
	longest int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.longest = max(p.longest, len(b))
	return p.Builder.Write(b)
}

// A scrape costs the memory of a few series, however many there are and whatever clients call themselves.
func TestScrapeIsWrittenInPieces(t *testing.T) {
	r, m := NewRegistry(false), NewIstio(IstioOptions{})
	c := m.NewCache()
	for i := range 500 {
		host := fmt.Sprint("h", i, strings.Repeat("x", 50_000))
		c.HTTP(Key{Destination: c.Host([]byte(host), "PassthroughCluster"), Code: 200}).Duration.Record(1)
		set, _ := r.Cluster(fmt.Sprint("c", i))
		set.UpstreamRqTime.Record(1)
	}
	var p pieces
	if err := r.WritePrometheus(&p, Options{}, all(m)); err != nil {
		t.Fatal(err)
	}
	if p.longest > 2*flushAt {
		t.Errorf("%d bytes were written at once, want about %d", p.longest, flushAt)
	}
	if text := string(m.AppendPrometheus(nil, Options{}, nil)); !strings.HasSuffix(p.String(), text) || len(text) > 500*100*2000 {
		t.Errorf("%d bytes in pieces; %d of Istio's metrics as a whole, which should be their end", p.Len(), len(text))
	}
	if n := strings.Count(p.String(), "# TYPE istio_request_duration_milliseconds "); n != 1 {
		t.Errorf("the type is told %d times", n)
	}
}

// Every metric has a name of its own.
func TestSets(t *testing.T) {
	for _, set := range []any{new(Cluster), new(HTTP), new(Listener), new(ListenerHTTP), new(TCP), new(Server), new(ListenerManager), new(ClusterManager), new(ControlPlane)} {
		r := NewRegistry(false)
		s := r.Add("x.", set)
		seen := map[string]bool{}
		for _, m := range s.fields {
			if seen[m.name] {
				t.Errorf("%T has %s twice", set, m.name)
			}
			seen[m.name] = true
		}
		if len(seen) == 0 {
			t.Errorf("%T has no metrics", set)
		}
	}
}

// A version is a number without a sign and a text, which comes first; sets of two types share a cluster's name.
func TestSubscription(t *testing.T) {
	r := NewRegistry(false)
	rds, eds := r.RDS("main", "table"), r.EDS("c")
	rds.Version.Set(1 << 63)
	rds.VersionText.Set("v1")
	rds.UpdateAttempt.Inc()
	eds.Cluster.UpdateSuccess.Inc()
	eds.UpdateRejected.Inc()
	var text, object, prometheus strings.Builder
	o := Options{UsedOnly: true}
	if err := errors.Join(r.WriteText(&text, o), r.WriteJSON(&object, o), r.WritePrometheus(&prometheus, o)); err != nil {
		t.Fatal(err)
	}
	want := "http.main.rds.table.version_text: \"v1\"\ncluster.c.update_rejected: 1\ncluster.c.update_success: 1\n" +
		"http.main.rds.table.update_attempt: 1\nhttp.main.rds.table.version: 9223372036854775808\n"
	if text.String() != want {
		t.Errorf("text %q, want %q", text.String(), want)
	}
	if part := `{"name":"http.main.rds.table.version_text","value":"v1"}`; !strings.Contains(object.String(), part) {
		t.Errorf("JSON %s, want %s in it", object.String(), part)
	}
	if part := `envoy_http_rds_version{envoy_http_conn_manager_prefix="main",envoy_rds_route_config="table"} 9223372036854775808`; !strings.Contains(prometheus.String(), part) {
		t.Errorf("Prometheus %s, want %s in it", prometheus.String(), part)
	}
	runtime.KeepAlive(rds)
	runtime.KeepAlive(eds)
}

// all writes all of Istio's metrics.
func all(m *Istio) func([]byte, Flush) []byte {
	return func(b []byte, flush Flush) []byte { return m.AppendPrometheus(b, Options{}, flush) }
}

// What a scrape asks for by name and kind counts for Istio's metrics as for Envoy's.
func TestIstioMetricsAreFiltered(t *testing.T) {
	m := NewIstio(IstioOptions{})
	m.NewCache().HTTP(Key{Code: 200}).Duration.Record(1)
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Filter: regexp.MustCompile("istio_requests")}, "istio_requests_total"},
		{Options{Filter: regexp.MustCompile("^istiocustom.*_bytes$"), Only: Histograms}, "istio_request_bytes istio_response_bytes"},
		{Options{Filter: regexp.MustCompile("^cluster")}, ""},
		{Options{Filter: regexp.MustCompile("request|response|tcp"), Invert: true}, "istio_build"},
		{Options{Only: Gauges}, "istio_build"},
	} {
		var got []string
		for l := range strings.Lines(string(m.AppendPrometheus(nil, test.o, nil))) {
			if f := strings.Fields(l); f[0] == "#" {
				got = append(got, f[2])
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v shows %q, want %q", test.o, got, test.want)
		}
	}
}
