package soap

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func do(t *testing.T, req *http.Request) (int, string, []byte) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Content-Type"), body
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// The consumer adds and removes nothing: what the provider says is what its
// caller reads, byte for byte, line ends included.
func TestPairPassesBytes(t *testing.T) {
	p := httptest.NewServer(provider("v2", "provider-v2-x"))
	defer p.Close()
	c := httptest.NewServer(consumer(p.URL))
	defer c.Close()

	ask := envelope(`<Describe xmlns="urn:malla:samples:provider"><subject>a &lt; b</subject></Describe>`)
	_, _, direct := do(t, request(t, "POST", p.URL, ask))
	status, ct, via := do(t, request(t, "POST", c.URL, ask))
	if status != 200 || ct != contentType || !bytes.Equal(via, direct) {
		t.Errorf("through the consumer: %d %s %q, want 200 %s %q", status, ct, via, contentType, direct)
	}
	for _, want := range []string{"<version>v2</version>", "<instance>provider-v2-x</instance>", "<subject>a &lt; b</subject>", "\r\n"} {
		if !bytes.Contains(via, []byte(want)) {
			t.Errorf("answer %q lacks %q", via, want)
		}
	}
	if status, _, body := do(t, request(t, "GET", c.URL+"/tariffs", "")); status != 200 || !bytes.Contains(body, []byte("<subject>/tariffs</subject>")) {
		t.Errorf("GET /tariffs: %d %q, want 200 and the path as the subject", status, body)
	}
}

func TestFaults(t *testing.T) {
	p := httptest.NewServer(provider("v1", "h"))
	defer p.Close()
	for _, bad := range []string{"", "<a/>", "no xml", `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"/>`} {
		status, ct, body := do(t, request(t, "POST", p.URL, bad))
		if status != 500 || ct != contentType || !bytes.Contains(body, []byte("<soap:Fault>")) {
			t.Errorf("%q: %d %s %q, want a 500 with a SOAP fault", bad, status, ct, body)
		}
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c := httptest.NewServer(consumer(gone.URL))
	defer c.Close()
	if status, _, body := do(t, request(t, "GET", c.URL, "")); status != 502 || !bytes.Contains(body, []byte("soap:Server")) {
		t.Errorf("no provider: %d %q, want 502 with a server fault", status, body)
	}
}

func TestTag(t *testing.T) {
	for image, want := range map[string]string{"malla/provider:v2": "v2", "malla/provider": "v1", "r:5000/malla/provider": "v1", "malla/provider:v3@sha256:0": "v3"} {
		if got := tag(image); got != want {
			t.Errorf("tag(%q) = %q, want %q", image, got, want)
		}
	}
}
