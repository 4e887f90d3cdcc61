package bookinfo

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

func environ(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

// start serves h and returns the environment by which callers find it.
func start(t *testing.T, name string, h http.Handler) []string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	upper := strings.ToUpper(name)
	return []string{upper + "_HOSTNAME", u.Hostname(), upper + "_SERVICE_PORT", u.Port()}
}

// shop starts the whole application with one version of reviews and a given
// ratings service, and returns the page's URL.
func shop(t *testing.T, reviewsImage string, ratings http.Handler) string {
	t.Helper()
	env := start(t, "ratings", ratings)
	env = append(env, start(t, "reviews", newReviews(environ(append(env, "MALLA_IMAGE", reviewsImage)...)).handler())...)
	env = append(env, start(t, "details", details(""))...)
	f, err := newFrontend(environ(env...))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(f.handler())
	t.Cleanup(s.Close)
	return s.URL
}

func get(t *testing.T, client *http.Client, url string) (int, string) {
	t.Helper()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestPageShowsAllServices(t *testing.T) {
	for _, test := range []struct{ image, color string }{
		{"docker.io/istio/examples-bookinfo-reviews-v1:1.20.3", ""},
		{"docker.io/istio/examples-bookinfo-reviews-v2:1.20.3", "black"},
		{"docker.io/istio/examples-bookinfo-reviews-v3:1.20.3", "red"},
	} {
		status, page := get(t, http.DefaultClient, shop(t, test.image, ratings(&memoryRatings{}))+"/productpage")
		if status != 200 {
			t.Fatalf("%s: status %d, want 200", test.image, status)
		}
		for _, want := range []string{
			"<title>Simple Bookstore App</title>", "The Comedy of Errors", "paperback", "<dd>200</dd>", "PublisherA", "English",
			"1234567890", "123-1234567890", "Reviewer1", "Reviewer2", "Reviews served by:",
		} {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page lacks %q", test.image, want)
			}
		}
		full, black, red := strings.Count(page, `"star full"`), strings.Count(page, "stars-black"), strings.Count(page, "stars-red")
		want := map[string][3]int{"": {0, 0, 0}, "black": {9, 2, 0}, "red": {9, 0, 2}}[test.color] // 5 and 4 stars
		if got := [3]int{full, black, red}; got != want {
			t.Errorf("%s: full stars, black rows, red rows: %v, want %v", test.image, got, want)
		}
	}
}

// A service that is away costs its part of the page and nothing else.
func TestPageWithoutServices(t *testing.T) {
	broken := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	status, page := get(t, http.DefaultClient, shop(t, "x/examples-bookinfo-reviews-v2", broken)+"/productpage")
	if status != 200 || strings.Count(page, "Ratings service is currently unavailable") != 2 || strings.Contains(page, "star full") {
		t.Errorf("without ratings: %d, want 200 and each review saying that ratings are unavailable", status)
	}

	f, err := newFrontend(environ(append(start(t, "details", broken), start(t, "reviews", broken)...)...))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	f.handler().ServeHTTP(w, httptest.NewRequest("GET", "/productpage", nil))
	for _, want := range []string{"Error fetching product details!", noDetails, "Error fetching product reviews!", noReviews} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("without details and reviews the page lacks %q", want)
		}
	}
	w = httptest.NewRecorder()
	f.handler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/products/0/reviews", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), noReviews) {
		t.Errorf("API without reviews: %d %s, want the service's 503 and the reason", w.Code, w.Body)
	}
}

func TestJSON(t *testing.T) {
	page := shop(t, "x/examples-bookinfo-reviews-v2", ratings(&memoryRatings{}))
	compact := func(s string) string {
		var v any
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		b, _ := json.Marshal(v)
		return string(b)
	}
	for path, want := range map[string]string{
		"/api/v1/products/0":         `{"id":0,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}`,
		"/api/v1/products/0/ratings": `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`,
	} {
		if status, got := get(t, http.DefaultClient, page+path); status != 200 || compact(got) != compact(want) {
			t.Errorf("%s: %d %s, want %s", path, status, got, want)
		}
	}
	_, got := get(t, http.DefaultClient, page+"/api/v1/products/0/reviews")
	for _, want := range []string{`"id":"0"`, `"podname":`, `"clustername":"null"`, `"reviewer":"Reviewer1"`, `"rating":{"stars":5,"color":"black"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("reviews %s lack %s", got, want)
		}
	}
	if status, got := get(t, http.DefaultClient, page+"/api/v1/products"); status != 200 || !strings.Contains(got, `"title":"The Comedy of Errors"`) {
		t.Errorf("products: %d %s", status, got)
	}
	for _, path := range []string{"/api/v1/products/x", "/api/v1/products/-1"} {
		if status, _ := get(t, http.DefaultClient, page+path); status != 400 {
			t.Errorf("%s: %d, want 400", path, status)
		}
	}
}

// The user and the trace reach ratings, two hops behind the page: the rules for
// jason depend on it, and so does every trace.
func TestHeadersReachRatings(t *testing.T) {
	var mu sync.Mutex
	var seen http.Header
	spy := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = r.Header.Clone()
		mu.Unlock()
		ratings(&memoryRatings{}).ServeHTTP(w, r)
	})
	page := shop(t, "x/examples-bookinfo-reviews-v3", spy)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	res, err := client.PostForm(page+"/login", url.Values{"username": {"jason"}, "passwd": {"x"}})
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if !strings.Contains(string(body), "<b>jason</b>") {
		t.Error("after the login the page does not show the user's name")
	}
	req, _ := http.NewRequest("GET", page+"/productpage", nil)
	req.Header.Set("X-Request-Id", "id-1")
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	req.Header.Set("X-B3-TraceId", "463ac35c9f6413ad48485a3953bb6124")
	if res, err = client.Do(req); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	mu.Lock()
	for name, want := range map[string]string{"End-User": "jason", "X-Request-Id": "id-1", "Traceparent": req.Header.Get("Traceparent"), "X-B3-Traceid": req.Header.Get("X-B3-TraceId")} {
		if got := seen.Get(name); got != want {
			t.Errorf("ratings sees %s %q, want %q", name, got, want)
		}
	}
	mu.Unlock()

	if _, page := get(t, client, page+"/logout"); strings.Contains(page, "<b>jason</b>") {
		t.Error("after the logout the page still shows the user's name")
	}
}

func TestSessionIsSigned(t *testing.T) {
	for _, value := range []string{"amFzb24", "amFzb24.", "amFzb24.AAAA", ".", ""} {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: value})
		if user := signedIn(r); user != "" {
			t.Errorf("cookie %q signs in %q, want nobody", value, user)
		}
	}
	for _, name := range []string{"", "a\r\nb", "é", strings.Repeat("x", 65), " a"} { // goes into a header
		if validUser(name) {
			t.Errorf("user %q is accepted", name)
		}
	}
}

func TestRatingsV1KeepsWhatIsPosted(t *testing.T) {
	h := ratings(&memoryRatings{})
	do := func(method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	do("POST", "/ratings/0", `{"Reviewer1":1,"Reviewer2":2}`)
	if _, got := do("GET", "/ratings/0", ""); got != `{"id":0,"ratings":{"Reviewer1":1,"Reviewer2":2}}` {
		t.Errorf("after the post: %s", got)
	}
	if _, got := do("GET", "/ratings/1", ""); got != `{"id":1,"ratings":{"Reviewer1":5,"Reviewer2":4}}` {
		t.Errorf("another product: %s, want the stars of the start", got)
	}
	if status, _ := do("POST", "/ratings/0", "{"); status != 400 {
		t.Errorf("broken JSON: %d, want 400", status)
	}
}

// ratings v2 shows what is in the data service at that moment.
func TestRatingsV2ReadsFromDB(t *testing.T) {
	db, err := startRatingsDB("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, closeStore, err := newRatings(environ("RATINGS_DB", db.Addr(), "MALLA_IMAGE", "malla/examples-bookinfo-ratings-v2:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	do := func(method, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader("{}")))
		return w.Code, w.Body.String()
	}
	if status, got := do("GET", "/ratings/0"); status != 200 || got != `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}` {
		t.Errorf("at the start: %d %s", status, got)
	}
	db.HSet("ratings:0", "Reviewer1", "1")
	if _, got := do("GET", "/ratings/0"); got != `{"id":0,"ratings":{"Reviewer1":1,"Reviewer2":4}}` {
		t.Errorf("after HSET: %s", got)
	}
	if status, _ := do("GET", "/ratings/7"); status != 404 {
		t.Errorf("a product nobody rated: %d, want 404", status)
	}
	if status, _ := do("POST", "/ratings/0"); status != 501 {
		t.Errorf("POST: %d, want 501", status)
	}
	db.Close()
	if status, got := do("GET", "/ratings/0"); status != 500 || !strings.Contains(got, "could not connect to ratings database") {
		t.Errorf("without the data service: %d %s", status, got)
	}
}

func TestRatingsRefuses(t *testing.T) {
	for _, env := range [][]string{
		{"MONGO_DB_URL", "mongodb://mongodb:27017/test"}, {"DB_TYPE", "mysql"},
		{"SERVICE_VERSION", "v-unhealthy"}, {"RATINGS_DELAY", "7"},
	} {
		if _, _, err := newRatings(environ(env...)); err == nil || !strings.Contains(err.Error(), env[1]) {
			t.Errorf("%q: error %v, want one that names it", env, err)
		}
	}
}

func TestEnvironmentOfTheOriginals(t *testing.T) {
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, "http://reviews:9080"},
		{[]string{"SERVICES_DOMAIN", "prod.svc"}, "http://reviews.prod.svc:9080"},
		{[]string{"REVIEWS_HOSTNAME", "r", "REVIEWS_SERVICE_PORT", "80"}, "http://r:80"},
		{[]string{"REVIEWS_SERVICE_PORT", "tcp://10.96.0.7:9080"}, "http://reviews:9080"},
	} {
		if got := service(environ(test.env...), "reviews"); got != test.want {
			t.Errorf("service with %q = %s, want %s", test.env, got, test.want)
		}
	}
	for image, want := range map[string]string{
		"docker.io/istio/examples-bookinfo-reviews-v3:1.20.3": "v3",
		"examples-bookinfo-ratings-v-faulty":                  "v-faulty",
		"r:5000/examples-bookinfo-reviews-v2@sha256:00":       "v2",
		"": "v1",
	} {
		if got := version(environ("MALLA_IMAGE", image)); got != want {
			t.Errorf("version of %q = %s, want %s", image, got, want)
		}
	}
	// v1 asks nobody for ratings unless it is told to.
	if s := newReviews(environ("SERVICE_VERSION", "v1")); s.ratings != "" {
		t.Error("reviews v1 calls ratings")
	}
	if s := newReviews(environ("SERVICE_VERSION", "v1", "ENABLE_RATINGS", "true", "STAR_COLOR", "red")); s.ratings == "" || s.color != "red" {
		t.Error("ENABLE_RATINGS=true STAR_COLOR=red is not heeded")
	}
}

func TestDetailsFromGoogle(t *testing.T) {
	google := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"items":[{"volumeInfo":{"authors":["William Shakespeare"],"publishedDate":"2002","printType":"BOOK","pageCount":64,
			"publisher":"Dover","language":"en","industryIdentifiers":[{"type":"ISBN_10","identifier":"0486424618"},{"type":"ISBN_13","identifier":"9780486424613"}]}}]}`)
	}))
	defer google.Close()
	w := httptest.NewRecorder()
	details(google.URL).ServeHTTP(w, httptest.NewRequest("GET", "/details/0", nil))
	want := `{"id":0,"author":"William Shakespeare","year":"2002","type":"paperback","pages":64,"publisher":"Dover","language":"English","ISBN-10":"0486424618","ISBN-13":"9780486424613"}`
	if w.Code != 200 || w.Body.String() != want {
		t.Errorf("%d %s, want %s", w.Code, w.Body, want)
	}
}

func TestHealthAndStatic(t *testing.T) {
	page := shop(t, "x/examples-bookinfo-reviews-v1", ratings(&memoryRatings{}))
	for path, want := range map[string]string{
		"/health": "Product page is healthy", "/": "Hello! This is a simple bookstore application", "/static/shop.css": "--accent", "/static/graph.svg": "<svg", "/static/book.svg": "<svg",
	} {
		if status, got := get(t, http.DefaultClient, page+path); status != 200 || !strings.Contains(got, want) {
			t.Errorf("%s: %d, want 200 and %q", path, status, want)
		}
	}
	for _, path := range []string{"/static/nothing", "/static/..%2fproductpage.html", "/nothing"} { // templates are not served
		if status, _ := get(t, http.DefaultClient, page+path); status != 404 && status != 400 {
			t.Errorf("%s: %d, want it refused", path, status)
		}
	}
}
