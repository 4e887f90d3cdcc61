//go:build linux

package script_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/busy"
	"github.com/mallamesh/malla/test/script/mesh"
)

// TestBookinfo is the README's first command and everything that the tutorial
// does with it.
func TestBookinfo(t *testing.T) {
	linux(t)
	m := mesh.Up(t, mesh.Options{Name: "bookinfo", Paths: []string{mesh.Samples(t, "bookinfo")}, Publish: []int{80, 31400}})
	run := func(name string, f func(bookinfo, *testing.T)) {
		t.Run(name, func(t *testing.T) { f(bookinfo{m.In(t)}, t) })
	}
	run("up says where the gateway is and what to type next", bookinfo.table)
	run("the page holds the data of all services", bookinfo.page)
	run("pods look as in a cluster", bookinfo.pods)
	run("without rules the three versions take turns", bookinfo.thirds)
	run("weights hold", bookinfo.weights)
	run("tasks do what they say", bookinfo.tasks)
	run("TCP connections are shifted", bookinfo.tcpShift)
	run("a timeout counts the application's time", bookinfo.timeout)
	run("a pod killed whole under load costs no request", bookinfo.podKilled)
	run("only its application killed: 503 with UF until the endpoint is out", bookinfo.applicationKilled)
	run("a rollout costs no request", bookinfo.rollout)
	run("traffic does not need the control plane", bookinfo.controlPlaneAway)
	run("what is saved reaches every proxy once the control plane is back", bookinfo.routesAfterReturn)
}

type bookinfo struct{ *mesh.Mesh }

func (b bookinfo) table(t *testing.T) {
	words(t, "the table of malla up", b.Up.Out, b.URL(""), "malla ")
	_, next, _ := strings.Cut(b.Up.Out, "Next:\n")
	if n := strings.Count(strings.TrimSpace(next), "\n") + 1; n != 3 || strings.Count(next, "malla --mesh bookinfo ") < 2 {
		t.Errorf("want three next commands, of this mesh:\n%s", b.Up.Out)
	}
}

func (b bookinfo) page(t *testing.T) {
	c := mesh.Client(5 * time.Second)
	mesh.Until(t, 10*time.Second, "a page with stars", func() error {
		a, err := mesh.Get(c, b.URL("/productpage"))
		if err != nil {
			return err
		}
		text := plain(a.Body)
		for _, want := range []string{"The Comedy of Errors", "Type: paperback", "Pages: 200", "Publisher: PublisherA", "Language: English",
			"ISBN-10: 1234567890", "ISBN-13: 123-1234567890", "Reviewer1", "Reviewer2"} {
			if !strings.Contains(text, want) {
				t.Fatalf("the page (%d) lacks %q: %s", a.Status, want, text)
			}
		}
		if got := a.Header.Get("server"); got != "istio-envoy" {
			t.Fatalf("server: %q, want istio-envoy", got)
		}
		if !strings.Contains(a.Body, `data-stars="5"`) || !strings.Contains(a.Body, `data-stars="4"`) {
			return fmt.Errorf("no 5 and 4 stars: %s", text)
		}
		return nil
	})
}

var tags = regexp.MustCompile(`<[^>]*>`)

func plain(html string) string {
	return strings.Join(strings.Fields(tags.ReplaceAllString(html, " ")), " ")
}

func (b bookinfo) pods(t *testing.T) {
	out := b.Must("get", "pods")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if head := strings.Fields(lines[0]); strings.Join(head, " ") != "NAME READY STATUS RESTARTS AGE" {
		t.Errorf("columns %v", head)
	}
	if len(lines) != 1+8 {
		t.Errorf("%d pods, want 8:\n%s", len(lines)-1, out)
	}
	row := regexp.MustCompile(`^(details-v1|productpage-v1|ratings-v1|ratings-v2|ratingsdb-v1|reviews-v1|reviews-v2|reviews-v3)-[a-z0-9]{6,10}-[a-z0-9]{5} +2/2 +Running +0 +`)
	for _, l := range lines[1:] {
		if !row.MatchString(l) {
			t.Errorf("row %q, want a pod's name as in a cluster, 2/2, Running", l)
		}
	}
	out = b.Must("get", "pods", "-A")
	words(t, "get pods -A", out, "NAMESPACE", "istio-ingressgateway-", "istiod-")
	wide := b.Must("get", "pods", "-o", "wide", "-l", "app=details")
	words(t, "get pods -o wide", wide, "IP", "NODE", "NOMINATED NODE", "READINESS GATES", "10.244.")
	labels := b.Must("get", "pods", "--show-labels", "-l", "app=details")
	words(t, "--show-labels", labels, "LABELS", "app=details", "version=v1", "pod-template-hash=")
	columns := b.Must("get", "pods", "-L", "version", "-l", "app=reviews")
	words(t, "-L version", columns, "VERSION", "v1", "v2", "v3")
	var list struct {
		Kind  string
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := json.Unmarshal([]byte(b.Must("get", "pods", "-l", "app in (details,ratingsdb)", "-o", "json")), &list); err != nil || list.Kind != "List" || len(list.Items) != 2 {
		t.Errorf("-o json: %+v, %v, want a List of two pods", list, err)
	}
	words(t, "-o yaml", b.Must("get", "service", "details", "-o", "yaml"), "kind: Service\n", "malla.dev/source: ", "bookinfo.yaml:")
	if names := strings.Fields(b.Must("get", "pods", "-o", "name", "-l", "app=details")); len(names) != 1 || !strings.HasPrefix(names[0], "pod/details-v1-") {
		t.Errorf("-o name: %v", names)
	}
	if c := b.Field("pod/"+b.Pod("app=details"), ".spec.containers[*].name"); c != "details istio-proxy" && c != "istio-proxy details" {
		t.Errorf("containers %q, want details and istio-proxy", c)
	}
	describe := b.Must("describe", "pod", b.Pod("app=details"))
	words(t, "describe pod", describe, "Name:", "istio-proxy:", "details:", "Conditions:", "Events:", "Service Account:  bookinfo-details")
	for kind, want := range map[string]string{"virtualservices": "GATEWAYS", "destinationrules": "HOST", "gateways.networking.istio.io": "AGE", "services": "CLUSTER-IP", "deployments": "UP-TO-DATE", "endpointslices": "ADDRESSTYPE"} {
		words(t, "get "+kind, b.Must("get", kind), want)
	}
}

// reviews is what the reviews service answered to the page.
type reviews struct {
	Pod     string `json:"podname"`
	Reviews []struct {
		Rating *struct {
			Stars int
			Color string
			Error string
		}
	}
}

// version names who answered by what people see.
func version(a mesh.Answer) (string, error) {
	if a.Status != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	var r reviews
	if err := json.Unmarshal([]byte(a.Body), &r); err != nil || len(r.Reviews) != 2 {
		return "", fmt.Errorf("not two reviews: %s", a.Body)
	}
	switch rating := r.Reviews[0].Rating; {
	case rating == nil:
		return "none", nil
	case rating.Error != "":
		return "error", nil
	default:
		return rating.Color, nil
	}
}

const reviewsPath = "/api/v1/products/0/reviews"

func (b bookinfo) count(n int) map[string]int {
	return mesh.Count(n, 8, func(c *http.Client) (string, error) {
		a, err := mesh.Get(c, b.URL(reviewsPath))
		if err != nil {
			return "", err
		}
		return version(a)
	})
}

func (b bookinfo) thirds(t *testing.T) {
	before := b.ratingsCallsOfV1(t)
	got := mesh.Count(150, 1, func(c *http.Client) (string, error) {
		a, err := mesh.Get(c, b.URL("/productpage"))
		switch {
		case err != nil:
			return "", err
		case strings.Contains(a.Body, `data-color="black"`):
			return "black", nil
		case strings.Contains(a.Body, `data-color="red"`):
			return "red", nil
		}
		return "none", nil
	})
	fits(t, got, map[string]float64{"none": 1, "black": 1, "red": 1})
	if now := b.ratingsCallsOfV1(t); now != before || now != "" {
		t.Errorf("reviews v1 has called ratings: %q", now)
	}
}

// ratingsCallsOfV1 are the metric's lines that say that reviews v1 called ratings.
func (b bookinfo) ratingsCallsOfV1(t *testing.T) string {
	t.Helper()
	found := ""
	for _, pod := range b.Pods("app=ratings") {
		r := b.Exec(pod, "istio-proxy", "curl", "-sS", "localhost:15090/stats/prometheus")
		if r.Code != 0 || !strings.Contains(r.Out, "istio_") {
			t.Fatalf("metrics of %s: %s", pod, r)
		}
		for _, line := range strings.Split(r.Out, "\n") {
			if strings.HasPrefix(line, "istio_requests_total") && strings.Contains(line, `source_workload="reviews-v1"`) {
				found += line
			}
		}
	}
	return found
}

// change applies a file under a steady load that must not notice, waits until
// seen says that it is in force, and holds it to one second. The load is 200 calls
// of reviews a second, unless the task is meant to make those fail.
func (b bookinfo) change(t *testing.T, file string, seen func() error) {
	t.Helper()
	path := reviewsPath
	if file == "reviews-timeout.yaml" {
		path = "/static/shop.css"
	}
	b.changeUnder(t, mesh.Steady(b.URL(path), 200, mesh.OK), file, seen)
}

func (b bookinfo) changeUnder(t *testing.T, load *mesh.Load, file string, seen func() error) {
	t.Helper()
	b.Must("apply", "-f", mesh.Samples(t, "bookinfo", "tasks", file))
	if err := mesh.Within(time.Second, seen); err != nil {
		t.Errorf("%s in force: %v", file, err)
	}
	if err := load.Stop(); err != nil {
		t.Errorf("while %s was applied: %v", file, err)
	}
}

// reset deletes the rules of tasks.
func (b bookinfo) reset(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		r := b.Run("delete", "--ignore-not-found", "-f", mesh.Samples(t, "bookinfo", "tasks", f))
		if r.Code != 0 {
			t.Errorf("delete %s: %s", f, r)
		}
	}
}

func (b bookinfo) weights(t *testing.T) {
	defer b.reset(t, "all-v1.yaml")
	b.change(t, "all-v1.yaml", b.only("none"))
	for _, test := range []struct { // each is told from the one before by a kind that it does not show
		file   string
		weight map[string]float64
	}{
		{"reviews-80-20.yaml", map[string]float64{"none": 80, "black": 20}},
		{"reviews-50-50.yaml", map[string]float64{"none": 50, "red": 50}},
		{"reviews-90-10.yaml", map[string]float64{"none": 90, "black": 10}},
	} {
		b.change(t, test.file, b.shows(test.weight))
		got := b.count(3000)
		if err := mesh.Fits(got, test.weight); err != nil {
			t.Errorf("%s: %v", test.file, err)
		}
	}
}

// shows returns a check that 40 answers are of versions with a weight, and of
// all of them.
func (b bookinfo) shows(weight map[string]float64) func() error {
	return func() error {
		got := b.count(40)
		for kind := range got {
			if weight[kind] == 0 {
				return fmt.Errorf("%v, want only %v", got, weight)
			}
		}
		if len(got) < 2 {
			return fmt.Errorf("%v, want each of %v", got, weight)
		}
		return nil
	}
}

// only returns a check that thirty answers in a row are of one kind, which chance
// would show of three kinds once in 10^14 times.
func (b bookinfo) only(kind string) func() error {
	return func() error {
		if got := b.count(30); got[kind] != 30 {
			return fmt.Errorf("%v, want only %s", got, kind)
		}
		return nil
	}
}

// login returns the cookie of a signed-in user.
func (b bookinfo) login(t *testing.T, user string) string {
	t.Helper()
	req, _ := http.NewRequest(http.MethodPost, b.URL("/login"), strings.NewReader(url.Values{"username": {user}, "passwd": {"x"}}.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := mesh.Client(5 * time.Second).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "session" {
			return "cookie: session=" + c.Value
		}
	}
	t.Fatalf("POST /login: %s without a session", resp.Status)
	return ""
}

// kinds asks n times as somebody and returns what was seen, how long it took, and how much of that the machine had no time.
func (b bookinfo) kinds(n int, header ...string) (seen map[string]int, took, held time.Duration) {
	busy.Record()
	seen = map[string]int{}
	c := mesh.Client(15 * time.Second)
	defer c.CloseIdleConnections()
	start := time.Now()
	for range n {
		a, err := mesh.Get(c, b.URL("/productpage"), header...)
		kind := ""
		switch {
		case err != nil:
			kind = err.Error()
		case strings.Contains(a.Body, "product reviews are currently unavailable"):
			kind = "no reviews"
		case strings.Contains(a.Body, "Ratings service is currently unavailable"):
			kind = "no ratings"
		case strings.Contains(a.Body, `data-color="black"`):
			kind = "black"
		case strings.Contains(a.Body, `data-color="red"`):
			kind = "red"
		case a.Status == http.StatusOK:
			kind = "none"
		default:
			kind = fmt.Sprint(a.Status)
		}
		seen[kind]++
	}
	took = time.Since(start)
	return seen, took, busy.Held(start, start.Add(took))
}

func (b bookinfo) tasks(t *testing.T) {
	jason := b.login(t, "jason")
	sees := func(n int, kind string, header ...string) error {
		if got, _, _ := b.kinds(n, header...); got[kind] != n {
			return fmt.Errorf("seen %v, want %s", got, kind)
		}
		return nil
	}
	defer b.reset(t, "all-v1.yaml")
	b.change(t, "all-v1.yaml", b.only("none"))
	t.Run("jason sees black stars, the others none", func(t *testing.T) {
		b.change(t, "reviews-jason-v2.yaml", func() error { return sees(5, "black", jason) })
		if err := sees(5, "none"); err != nil {
			t.Error(err)
		}
	})
	t.Run("ratings fail for jason", func(t *testing.T) {
		b.change(t, "ratings-abort.yaml", func() error { return sees(3, "no ratings", jason) })
		if err := sees(3, "none"); err != nil {
			t.Error(err)
		}
	})
	t.Run("ratings take seven seconds for jason: reviews give up after six", func(t *testing.T) {
		b.change(t, "ratings-delay.yaml", func() error {
			if _, err := mesh.Get(mesh.Client(400*time.Millisecond), b.URL("/productpage"), jason); err == nil {
				return fmt.Errorf("jason is answered at once")
			}
			return nil
		})
		mesh.Until(t, 20*time.Second, "a page without reviews after 6 s", func() error {
			got, took, held := b.kinds(1, jason)
			if got["no reviews"] != 1 || took < 5900*time.Millisecond || took-held > 6600*time.Millisecond {
				return fmt.Errorf("seen %v after %v, of which others had %v", got, took, held)
			}
			return nil
		})
		if got, took, held := b.kinds(1); got["none"] != 1 || took-held > time.Second {
			t.Errorf("the others see %v after %v, of which others had %v", got, took, held)
		}
	})
	t.Run("reviews have half a second", func(t *testing.T) {
		b.change(t, "reviews-timeout.yaml", func() error {
			// The timeout is in force as soon as an answer is late at all: then the page
			// itself takes a second.
			_, err := mesh.Get(mesh.Client(400*time.Millisecond), b.URL("/productpage"))
			if err == nil {
				return fmt.Errorf("answered at once")
			}
			return nil
		})
		mesh.Until(t, 10*time.Second, "a page without reviews after two tries of 0.5 s", func() error {
			got, took, held := b.kinds(1)
			if got["no reviews"] != 1 || took < 950*time.Millisecond || took-held > 1500*time.Millisecond {
				return fmt.Errorf("seen %v after %v, of which others had %v", got, took, held)
			}
			return nil
		})
		b.LogLine("app=productpage", "istio-proxy", []string{" 504 UT response_timeout ", "outbound|9080|v2|reviews.default.svc.cluster.local"})
	})
	b.Must("apply", "-f", mesh.Samples(t, "bookinfo", "tasks", "all-v1.yaml"))
	mesh.Until(t, 5*time.Second, "all see v1 again, and in time", b.only("none"))
	t.Run("a copy of each request goes to v3", func(t *testing.T) {
		v3 := func() int {
			n := 0
			for _, line := range b.Logs("app=reviews,version=v3", "istio-proxy") {
				if strings.Contains(line, "inbound|9080||") && strings.Contains(line, "reviews-shadow:9080") {
					n++
				}
			}
			return n
		}
		b.change(t, "reviews-mirror.yaml", func() error {
			if err := sees(3, "none"); err != nil {
				return err
			}
			if v3() == 0 {
				return fmt.Errorf("no copy in the log of v3")
			}
			return nil
		})
		b.copies(t, 20, func() error { return sees(20, "none") })
	})
}

// copies sees to it that each of n requests that ask makes v1 answer has one copy at v3. Logs are written once a second, so a
// request before them and one behind them, whose lines stand there in their order, say which they are.
func (b bookinfo) copies(t *testing.T, n int, ask func() error) {
	t.Helper()
	mark := func(what string) {
		r := b.Exec("deploy/productpage-v1", "productpage", append(append([]string{}, curl...), "-sS", "-o", "/dev/null", "http://reviews:9080/reviews/0?"+what)...)
		if r.Code != 0 {
			t.Fatalf("curl: %s", r)
		}
	}
	mark("first")
	if err := ask(); err != nil {
		t.Error(err)
	}
	mark("last")
	var asked []string
	mesh.Until(t, 5*time.Second, "the requests in the log of v1", func() error {
		asked = nil
		begun := false
		for _, line := range b.Logs("app=reviews,version=v1", "istio-proxy") {
			switch {
			case !strings.Contains(line, ` "GET /reviews/0`):
			case strings.Contains(line, "/reviews/0?first "):
				begun = true
			case strings.Contains(line, "/reviews/0?last "):
				return nil
			case begun:
				asked = append(asked, parseLine(t, line)[fRequestID])
			}
		}
		return fmt.Errorf("%d, and not yet all", len(asked))
	})
	if len(asked) != n {
		t.Errorf("v1 was asked %d times, want %d", len(asked), n)
	}
	mesh.Until(t, 5*time.Second, "a copy of each in the log of v3", func() error {
		copies := map[string]int{}
		for _, line := range b.Logs("app=reviews,version=v3", "istio-proxy") {
			if strings.Contains(line, "inbound|9080||") && strings.Contains(line, "reviews-shadow:9080") {
				copies[parseLine(t, line)[fRequestID]]++
			}
		}
		for _, id := range asked {
			if copies[id] != 1 {
				return fmt.Errorf("%d of %s", copies[id], id)
			}
		}
		return nil
	})
}

// A VirtualService's timeout does not count an injected delay, but the
// application's own time.
func (b bookinfo) timeout(t *testing.T) {
	rules := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings]
  http:
  - route: [{destination: {host: ratings, subset: v1}}]
    timeout: 5s
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route: [{destination: {host: reviews, subset: v2}}]
`
	b.Apply(rules)
	defer b.Delete(rules)
	reviewsPod := b.Pod("app=reviews,version=v2")
	ask := func() (status, body string, took, held time.Duration) {
		start := time.Now()
		r := b.Exec(reviewsPod, "reviews", "curl", "-sS", "-w", "\n%{http_code} %{time_total}", "http://ratings:9080/ratings/0")
		i := strings.LastIndex(r.Out, "\n")
		f := strings.Fields(r.Out[i+1:])
		if r.Code != 0 || len(f) != 2 {
			t.Fatalf("curl: %s", r)
		}
		took, _ = time.ParseDuration(f[1] + "s")
		return f[0], r.Out[:i], took, busy.Held(start, time.Now())
	}
	delay := func(d string) {
		b.Must("patch", "deployment", "ratings-v1", "-p", `{"spec":{"template":{"spec":{"containers":[{"name":"ratings","env":[{"name":"RATINGS_DELAY","value":"`+d+`"}]}]}}}}`)
		b.Rollout("ratings-v1")
	}
	delay("7s")
	status, body, took, held := ask()
	if status != "504" || body != "upstream request timeout" || took < 4800*time.Millisecond || took-held > 5200*time.Millisecond {
		t.Errorf("%s %q after %v, of which others had %v; want 504 upstream request timeout after 5 s", status, body, took, held)
	}
	b.LogLine("app=reviews,version=v2", "istio-proxy", []string{" 504 UT response_timeout "})
	delay("3s")
	if status, body, took, _ := ask(); status != "200" || took < 3*time.Second {
		t.Errorf("%s %q after %v, want 200 after 3 s", status, body, took)
	}
	delay("0s")
}

func (b bookinfo) tcpShift(t *testing.T) {
	b.Must("apply", "-f", mesh.Samples(t, "tcp-echo", "tcp-echo-services.yaml"))
	defer b.Run("delete", "-f", mesh.Samples(t, "tcp-echo", "tcp-echo-services.yaml"))
	b.Rollout("tcp-echo-v1")
	b.Rollout("tcp-echo-v2")
	var mu sync.Mutex
	seen := map[string]int{} // all answers
	echo := func() (string, error) {
		got, err := say(b.Port(31400), "world\n", 5*time.Second)
		if err == nil {
			mu.Lock()
			seen[got]++
			mu.Unlock()
		}
		return got, err
	}
	answers := func(want string) func() error {
		return func() error {
			got, err := echo()
			if err == nil && got != want {
				err = fmt.Errorf("%q, want %q", got, want)
			}
			return err
		}
	}
	b.Must("apply", "-f", mesh.Samples(t, "tcp-echo", "tcp-echo-all-v1.yaml"))
	mesh.Until(t, 5*time.Second, "an echo of v1", answers("one world\n"))
	load := mesh.Every(100, func() error {
		_, err := echo()
		return err
	})
	// One connection in five goes to v2: of a hundred in a row one surely does (0.8^100 = 2e-10).
	b.changeUnder(t, load, "tcp-shift.yaml", func() error {
		var err error
		for range 100 {
			if err = answers("two world\n")(); err == nil {
				return nil
			}
		}
		return err
	})
	defer b.reset(t, "tcp-shift.yaml")
	got := mesh.Count(1000, 8, func(*http.Client) (string, error) { return echo() })
	if err := mesh.Fits(got, map[string]float64{"one world\n": 80, "two world\n": 20}); err != nil {
		t.Error(err)
	}
	// Each connection was one line of 6 bytes and its echo of 10, and both sides have
	// counted it.
	for version, answer := range map[string]string{"v1": "one world\n", "v2": "two world\n"} {
		n := float64(seen[answer])
		wants := map[string]float64{
			"istio_tcp_connections_opened_total": n, "istio_tcp_connections_closed_total": n,
			"istio_tcp_received_bytes_total": 6 * n, "istio_tcp_sent_bytes_total": 10 * n,
		}
		labels := []string{
			"source_workload=istio-ingressgateway", "source_workload_namespace=istio-system", "destination_workload=tcp-echo-" + version,
			"destination_version=" + version, "destination_service=tcp-echo.default.svc.cluster.local", "destination_service_name=tcp-echo",
			"destination_principal=spiffe://cluster.local/ns/default/sa/default", "request_protocol=tcp", "response_flags=-",
		}
		pod := b.Pod("app=tcp-echo,version=" + version)
		amounts(t, "the server's side, "+version, func() string { return metricsOf(t, b.Mesh, pod, "15090") }, append(labels, "reporter=destination", "connection_security_policy=mutual_tls"), wants)
		amounts(t, "the gateway's side, "+version, func() string {
			return metricsOf(t, b.Mesh, "deploy/istio-ingressgateway", "15020", "-n", "istio-system")
		}, append(labels, "reporter=source"), wants)
	}
}

func (b bookinfo) controlPlaneAway(t *testing.T) {
	defer b.reset(t, "all-v1.yaml")
	b.Ready("app") // no pod of an earlier rollout is on its way out
	b.change(t, "all-v1.yaml", b.only("none"))
	istiod := b.process(t, "control", "run")
	load := mesh.Steady(b.URL("/productpage"), 50, mesh.OK)
	before := b.pushes(t)
	if err := mesh.Kill(istiod); err != nil {
		t.Fatal(err)
	}
	mesh.Until(t, 10*time.Second, "the control plane restarted", func() error {
		if istiod.Alive() {
			return fmt.Errorf("still alive")
		}
		for _, p := range b.Tree() {
			if p.Is("control", "run") {
				return nil
			}
		}
		return fmt.Errorf("no control plane")
	})
	b.Ready("app=istiod", "-n", "istio-system")
	mesh.Until(t, 15*time.Second, "all proxies connected again", func() error { return mesh.Near("connected proxies", b.connected(t), 9, 0) })
	for proxy, n := range b.pushes(t) {
		if was, known := before[proxy]; known && n != was {
			t.Errorf("%s got a push after the control plane came back, though nothing has changed (%d updates before, %d now)", proxy, was, n)
		}
	}
	b.change(t, "reviews-50-50.yaml", b.shows(map[string]float64{"none": 1, "red": 1}))
	if err := load.Stop(); err != nil {
		t.Error(err)
	}
}

// onlyTo is a rule that sends every call of reviews to one version.
func onlyTo(subset string) string {
	return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  hosts: [reviews]\n  http: [{route: [{destination: {host: reviews, subset: " + subset + "}}]}]\n"
}

// A control plane that is away for longer: what runs goes on, what is saved waits
// for it, and what is saved afterwards is in force everywhere in 300 ms.
func (b bookinfo) routesAfterReturn(t *testing.T) {
	defer b.Delete(onlyTo("v1"))
	b.Apply(onlyTo("v1"))
	mesh.Until(t, 5*time.Second, "only v1", b.only("none"))
	load := mesh.Steady(b.URL(reviewsPath), 50, mesh.OK)
	before := b.pushes(t)
	b.Must("scale", "deployment", "istiod", "-n", "istio-system", "--replicas=0")
	mesh.Until(t, 10*time.Second, "no control plane", func() error { return mesh.Near("pods", len(b.Pods("app=istiod", "-n", "istio-system")), 0, 0) })
	b.Apply(onlyTo("v3"))
	if err := mesh.Hold(500*time.Millisecond, b.only("none")); err != nil {
		t.Errorf("a proxy has a route that nobody can have sent: %v", err)
	}
	b.Must("scale", "deployment", "istiod", "-n", "istio-system", "--replicas=1")
	b.Rollout("istiod", "-n", "istio-system")
	mesh.Until(t, 20*time.Second, "all proxies connected again", func() error { return mesh.Near("connected proxies", b.connected(t), 9, 0) })
	if err := mesh.Within(time.Second, b.only("red")); err != nil {
		t.Errorf("what was saved meanwhile is in force when all proxies are connected: %v", err)
	}
	// The clusters of istiod's own four ports name its identity, which has gone and
	// come with its endpoint. Nothing else but the route has changed.
	const own = 2 * 4
	for proxy, n := range b.pushes(t) {
		if was, known := before[proxy]; known && n > was+own {
			t.Errorf("%s got clusters or listeners again, though only a route has changed (%d updates before, %d now)", proxy, was, n)
		}
	}
	within, all := b.convergence(t)
	begun := time.Now()
	var took []time.Duration // of what the machine had for everybody
	for _, rule := range []struct{ subset, seen string }{{"v1", "none"}, {"v2", "black"}, {"v3", "red"}, {"v1", "none"}, {"v2", "black"}} {
		b.Apply(onlyTo(rule.subset))
		start := time.Now()
		mesh.Until(t, 5*time.Second, rule.seen, b.only(rule.seen))
		took = append(took, busy.Free(start, time.Now()))
	}
	others := float64(busy.Held(begun, time.Now())) / float64(time.Since(begun))
	if m := mesh.Median(took); m > 300*time.Millisecond {
		t.Errorf("rules are in force after %v", took)
	}
	mesh.Until(t, 5*time.Second, "acknowledged by every proxy", func() error {
		w, a := b.convergence(t)
		switch w, a = w-within, a-all; {
		case a < 5*9:
			return fmt.Errorf("%v pushes acknowledged, want %d", a, 5*9)
		case w < a/2*(1-others): // it counts by the clock
			return fmt.Errorf("%v of %v pushes acknowledged within 300 ms, want more than half", w, a)
		}
		return nil
	})
	if err := load.Stop(); err != nil {
		t.Error(err)
	}
}

// convergence says how many pushes have been acknowledged, and how many of them
// within 300 ms of the change, by the control plane's own count.
func (b bookinfo) convergence(t *testing.T) (within, all float64) {
	t.Helper()
	text := b.ExecIn("istio-system", "deploy/istiod", "discovery", "curl", "-sS", "localhost:15014/metrics").Out
	within, _ = sum(text, "pilot_proxy_convergence_time_bucket", "le=0.3")
	all, _ = sum(text, "pilot_proxy_convergence_time_bucket", "le=+Inf")
	return within, all
}

// connected is how many proxies the control plane knows.
func (b bookinfo) connected(t *testing.T) int {
	t.Helper()
	r := b.ExecIn("istio-system", "deploy/istiod", "discovery", "curl", "-sS", "localhost:15014/debug/syncz")
	var rows []json.RawMessage
	if r.Code != 0 || json.Unmarshal([]byte(r.Out), &rows) != nil {
		return -1
	}
	return len(rows)
}

// pushes counts, by pod, the resources that each proxy has taken in.
func (b bookinfo) pushes(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, pod := range b.Pods("app") {
		r := b.Exec(pod, "istio-proxy", append(append([]string{}, curl...), "-sS", "localhost:15000/stats?filter=_manager")...)
		if strings.Contains(r.Err, "not found") {
			continue // of an earlier rollout
		}
		for _, line := range strings.Split(r.Out, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			for _, what := range []string{"cluster_added", "cluster_modified", "cluster_removed", "listener_added", "listener_modified", "listener_removed"} {
				n := 0
				if strings.HasSuffix(name, "."+what) {
					fmt.Sscan(value, &n)
					counts[pod] += n
				}
			}
		}
		if counts[pod] == 0 {
			t.Fatalf("no clusters and listeners counted in %s: %s", pod, r)
		}
	}
	return counts
}

// process finds one of the mesh's processes by its first words.
func (b bookinfo) process(t *testing.T, words ...string) mesh.Process {
	t.Helper()
	for _, p := range b.Tree() {
		if p.Is(words...) {
			return p
		}
	}
	t.Fatalf("no process %v in %v", words, b.Tree())
	return mesh.Process{}
}

// podOf finds the process 1 of a pod, its application and its sidecar: those that
// live in the network namespace of the pod.
func podOf(t *testing.T, m *mesh.Mesh, pod string) (init, application, sidecar mesh.Process) {
	t.Helper()
	r := m.Exec(pod, "istio-proxy", "readlink", "/proc/self/ns/net")
	net := strings.TrimSpace(r.Out)
	if r.Code != 0 || net == "" {
		t.Fatalf("network namespace of %s: %s", pod, r)
	}
	for _, p := range m.Tree() {
		switch {
		case mesh.NamespaceOf(p.PID, "net") != net:
		case p.Is("local", "pod-init"):
			init = p
		case p.Is("proxy", "run"):
			sidecar = p
		default:
			application = p
		}
	}
	if init.PID == 0 || application.PID == 0 || sidecar.PID == 0 {
		t.Fatalf("no process 1, application or sidecar in pod %s:\n%v", pod, m.Tree())
	}
	return init, application, sidecar
}

func (b bookinfo) podKilled(t *testing.T) {
	b.Must("scale", "deployment", "reviews-v1", "--replicas=2")
	defer b.Must("scale", "deployment", "reviews-v1", "--replicas=1")
	defer b.reset(t, "all-v1.yaml")
	b.Rollout("reviews-v1")
	b.change(t, "all-v1.yaml", b.only("none"))
	load := mesh.Steady(b.URL(reviewsPath), 200, mesh.OK)
	mesh.Until(t, 5*time.Second, "load", func() error {
		if load.Sent() < 50 {
			return fmt.Errorf("%d requests", load.Sent())
		}
		return nil
	})
	victim := b.Pods("app=reviews,version=v1")[0]
	address := b.Field("pod/"+victim, ".status.podIP")
	init, _, sidecar := podOf(t, b.Mesh, victim)
	if err := mesh.Kill(init); err != nil {
		t.Fatal(err)
	}
	if err := mesh.Within(time.Second, func() error {
		if sidecar.Alive() {
			return fmt.Errorf("%v is alive", sidecar)
		}
		return nil
	}); err != nil {
		t.Errorf("the pod's end: %v", err)
	}
	// A request that is sent in the same moment may find a connection on which the news has not come.
	mesh.Grace(10 * time.Millisecond)
	dead := time.Now()
	// The gateway's pod has no capture: its connects go to the address itself, and
	// would hang until curl gives up (exit 28) if that were silent.
	r := b.ExecIn("istio-system", "deploy/istio-ingressgateway", "istio-proxy", append(append([]string{}, curl...), "-sS", "-o", "/dev/null", "--connect-timeout", "2", "http://"+address+":9080/health")...)
	if r.Code != 7 {
		t.Errorf("connect to the dead pod's address: %s, want exit 7 at once", r)
	}
	mesh.Until(t, 20*time.Second, "a pod in its place", func() error {
		now := b.Pods("app=reviews,version=v1", "--field-selector=status.phase=Running")
		if len(now) < 2 {
			return fmt.Errorf("pods %v", now)
		}
		return nil
	})
	err := load.Stop()
	// What was on its way to the pod cannot be repeated: it may have been done. All
	// that was sent once the pod had gone is repeated at its twin, as by Istio's
	// default retries (connect-failure).
	if n := load.FailedSince(dead); n != 0 {
		t.Errorf("%d requests that were sent after the pod's end at %s failed: %v", n, dead.Format("05.000"), err)
	} else if err != nil {
		t.Logf("in flight: %v", err)
	}
}

func (b bookinfo) applicationKilled(t *testing.T) {
	defer b.reset(t, "all-v1.yaml")
	b.change(t, "all-v1.yaml", b.only("none"))
	pod := b.Pod("app=details")
	load := mesh.Steady(b.URL("/api/v1/products/0"), 200, func(mesh.Answer) error { return nil })
	// The first restart comes at once and may be faster than the sidecar's retries:
	// then nobody sees it. The second comes after a second.
	var killed time.Time
	for restarts := 1; restarts <= 2; restarts++ {
		_, application, _ := podOf(t, b.Mesh, pod)
		killed = time.Now()
		if err := mesh.Kill(application); err != nil {
			t.Fatal(err)
		}
		mesh.Until(t, 30*time.Second, "details restarted", func() error {
			n := b.Field("pod/"+pod, `.status.containerStatuses[?(@.name=="details")].restartCount`)
			if n != strconv.Itoa(restarts) {
				return fmt.Errorf("%s restarts, want %d", n, restarts)
			}
			return nil
		})
		b.Ready("app=details")
	}
	_ = load.Stop()
	// The sidecar that dials the application is its own; the caller's sees the
	// answer, or no endpoint.
	var dialled []time.Duration // by requests that were answered after the last kill: when they came, of what the machine had for everybody
	mesh.Until(t, 5*time.Second, "503 with UF or URX,UF in the log of details' sidecar", func() error {
		dialled = nil
		var came time.Time // the log must have come to the end of the load
		for _, line := range b.Logs("app=details", "istio-proxy") {
			if !strings.Contains(line, `"GET /details/0`) {
				continue
			}
			came = logTime(line)
			took, _ := strconv.Atoi(parseLine(t, line)[fDuration])
			answered := came.Add(time.Duration(took+2) * time.Millisecond) // both are cut off at whole milliseconds
			if (strings.Contains(line, " 503 UF ") || strings.Contains(line, " 503 URX,UF ")) && answered.After(killed) {
				dialled = append(dialled, max(0, busy.Free(killed, came)))
			}
		}
		if len(dialled) == 0 || time.Since(came) < time.Second {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	if slices.Max(dialled) > 200*time.Millisecond {
		t.Errorf("the dead application was dialled at %v after the kill, want none after 200 ms", dialled)
	}
}

// logTime is the START_TIME of an access-log line.
func logTime(line string) time.Time {
	stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "["), "]")
	at, _ := time.Parse("2006-01-02T15:04:05.000Z", stamp)
	return at
}

func (b bookinfo) rollout(t *testing.T) {
	load := mesh.Steady(b.URL("/productpage"), 100, mesh.OK)
	gateway := mesh.Steady(b.URL("/static/shop.css"), 100, func(a mesh.Answer) error {
		if a.Status >= 500 {
			return fmt.Errorf("status %d", a.Status)
		}
		return nil
	})
	before := b.Pods("app=productpage")
	b.Must("rollout", "restart", "deployment", "productpage-v1", "reviews-v1", "details-v1")
	for _, d := range []string{"productpage-v1", "reviews-v1", "details-v1"} {
		b.Rollout(d)
	}
	b.Must("rollout", "restart", "deployment", "istio-ingressgateway", "-n", "istio-system")
	b.Rollout("istio-ingressgateway", "-n", "istio-system")
	mesh.Until(t, 40*time.Second, "the old pods gone", func() error {
		now := b.Pods("app=productpage")
		if len(now) != 1 || now[0] == before[0] {
			return fmt.Errorf("pods %v, before %v", now, before)
		}
		return nil
	})
	if err := load.Stop(); err != nil {
		t.Errorf("pages: %v", err)
	}
	if err := gateway.Stop(); err != nil {
		t.Errorf("at the gateway: %v", err)
	}
}
