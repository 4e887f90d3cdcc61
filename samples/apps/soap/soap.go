// Package soap is a pair of services that speak SOAP 1.1 over HTTP: a provider,
// and a consumer that asks the provider once per request and passes its answer
// on byte for byte.
//
// It stands for the many services of its age that people bring into a mesh:
// POST, text/xml, a SOAPAction header, and one version that has to be replaced
// by the next while it is in use.
package soap

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mallamesh/malla/samples/apps/internal/forward"
	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

const (
	contentType = "text/xml; charset=utf-8"
	action      = `"urn:malla:samples:provider#Describe"`
	maxBody     = 1 << 20
)

// Provider answers every POST on PROVIDER_PORT (5000) with an envelope that
// names its version, VERSION or else the tag of its image, and its instance.
func Provider(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	version := env("VERSION")
	if version == "" {
		version = tag(env("MALLA_IMAGE"))
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("own host name: %w", err)
	}
	return serve.HTTP(ctx, serve.Port(env, "PROVIDER_PORT", "5000"), provider(version, host))
}

// Consumer listens on CONSUMER_PORT (6000) and asks
// http://PROVIDER_HOST:PROVIDER_PORT/ (provider:5000).
func Consumer(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	host := env("PROVIDER_HOST")
	if host == "" {
		host = "provider"
	}
	url := "http://" + net.JoinHostPort(host, serve.Port(env, "PROVIDER_PORT", "5000")) + "/"
	return serve.HTTP(ctx, serve.Port(env, "CONSUMER_PORT", "6000"), consumer(url))
}

func provider(version, host string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", health)
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			fault(w, http.StatusBadRequest, "Client", "the request could not be read: "+err.Error())
			return
		}
		subject, err := parse(body)
		if err != nil {
			fault(w, http.StatusInternalServerError, "Client", err.Error()) // SOAP 1.1, section 6.2: a fault is a 500
			return
		}
		write(w, http.StatusOK, envelope(
			"<DescribeResponse xmlns=\"urn:malla:samples:provider\">"+
				"<subject>"+escape(subject)+"</subject>"+
				"<version>"+escape(version)+"</version>"+
				"<instance>"+escape(host)+"</instance>"+
				"</DescribeResponse>"))
	})
	return mux
}

func consumer(url string) http.Handler {
	client := forward.Client(10 * time.Second)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", health)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body := []byte(envelope("<Describe xmlns=\"urn:malla:samples:provider\"><subject>" + escape(r.URL.Path) + "</subject></Describe>"))
		if r.Method == http.MethodPost { // the caller's own envelope, unchanged
			var err error
			if body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
				fault(w, http.StatusBadRequest, "Client", "the request could not be read: "+err.Error())
				return
			}
		}
		ask(w, r, client, url, body)
	})
	return mux
}

// ask sends one envelope to the provider and copies its answer.
func ask(w http.ResponseWriter, r *http.Request, client *http.Client, url string, body []byte) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		fault(w, http.StatusInternalServerError, "Server", err.Error())
		return
	}
	forward.Headers(req.Header, r.Header)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("SOAPAction", action)
	res, err := client.Do(req)
	if err != nil {
		fault(w, http.StatusBadGateway, "Server", err.Error())
		return
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		fault(w, http.StatusBadGateway, "Server", "the provider's answer broke off: "+err.Error())
		return
	}
	if ct := res.Header.Get("Content-Type"); ct != "" {
		w.Header().Set("Content-Type", ct)
	}
	w.WriteHeader(res.StatusCode)
	_, _ = w.Write(answer) // a caller that has gone does not want it
}

func health(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok\n") }

// parse finds what a Describe envelope asks about; it is empty if it does not
// say.
func parse(body []byte) (string, error) {
	var e struct {
		XMLName xml.Name `xml:"http://schemas.xmlsoap.org/soap/envelope/ Envelope"`
		Body    *struct {
			Describe struct {
				Subject string `xml:"subject"`
			} `xml:"Describe"`
		} `xml:"http://schemas.xmlsoap.org/soap/envelope/ Body"`
	}
	if err := xml.Unmarshal(body, &e); err != nil {
		return "", fmt.Errorf("the request is not a SOAP 1.1 envelope: %w", err)
	}
	if e.Body == nil {
		return "", errors.New("the envelope has no Body")
	}
	return e.Body.Describe.Subject, nil
}

// envelope keeps its line ends as CRLF on purpose: a path that is not byte for
// byte shows itself.
func envelope(body string) string {
	return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n" +
		"<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\">\r\n" +
		"  <soap:Body>" + body + "</soap:Body>\r\n" +
		"</soap:Envelope>\r\n"
}

func fault(w http.ResponseWriter, status int, code, text string) {
	write(w, status, envelope("<soap:Fault><faultcode>soap:"+code+"</faultcode><faultstring>"+escape(text)+"</faultstring></soap:Fault>"))
}

func write(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}

// tag is "v2" for malla/provider:v2.
func tag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	_, tag, ok := strings.Cut(image[strings.LastIndexByte(image, '/')+1:], ":")
	if !ok || tag == "" {
		return "v1"
	}
	return tag
}
