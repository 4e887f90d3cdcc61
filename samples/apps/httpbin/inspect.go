package httpbin

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// maxBody bounds what is repeated to the caller.
const maxBody = 16 << 20

// inspect has the paths that say what arrived.
func (b bin) inspect(mux *http.ServeMux) {
	mux.HandleFunc("GET /get", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, b.request(r))
	})
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		mux.HandleFunc(method+" /"+strings.ToLower(method), b.echo(false))
	}
	mux.HandleFunc("/anything", b.echo(true))
	mux.HandleFunc("/anything/", b.echo(true))
	mux.HandleFunc("GET /headers", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"headers": b.headers(r)})
	})
	mux.HandleFunc("GET /ip", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"origin": origin(r)})
	})
	mux.HandleFunc("GET /user-agent", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"user-agent": r.UserAgent()})
	})
	mux.HandleFunc("GET /uuid", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"uuid": uuid.NewString()})
	})
	mux.HandleFunc("GET /hostname", func(w http.ResponseWriter, r *http.Request) {
		name, err := os.Hostname()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, map[string]any{"hostname": name})
	})
	mux.HandleFunc("/response-headers", func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]any{}
		for name, values := range r.URL.Query() {
			for _, v := range values {
				w.Header().Add(name, v)
			}
			answer[http.CanonicalHeaderKey(name)] = b.values(values)
		}
		writeJSON(w, answer)
	})
}

// request describes what arrived, without its body.
func (b bin) request(r *http.Request) map[string]any {
	scheme := r.Header.Get("X-Forwarded-Proto")
	if scheme == "" {
		scheme = "http"
	}
	args := map[string]any{}
	for name, values := range r.URL.Query() {
		args[name] = b.values(values)
	}
	m := map[string]any{
		"args": args, "headers": b.headers(r), "origin": origin(r),
		"url": scheme + "://" + r.Host + r.URL.RequestURI(),
	}
	if b.goStyle {
		m["method"] = r.Method
	}
	return m
}

// echo describes what arrived with its body.
func (b bin) echo(method bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		m := b.request(r)
		if method {
			m["method"] = r.Method
		}
		b.content(m, r.Header.Get("Content-Type"), data)
		writeJSON(w, m)
	}
}

// content adds a body: forms as their fields, the rest as it is, and as JSON if
// it is some.
func (b bin) content(m map[string]any, contentType string, data []byte) {
	form, files := map[string]any{}, map[string]any{}
	m["form"], m["files"], m["data"], m["json"] = form, files, "", nil
	media, params, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && media == "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(data))
		if err == nil {
			for name, v := range values {
				form[name] = b.values(v)
			}
			return
		}
	case err == nil && media == "multipart/form-data":
		f, err := multipart.NewReader(strings.NewReader(string(data)), params["boundary"]).ReadForm(maxBody)
		if err == nil {
			for name, v := range f.Value {
				form[name] = b.values(v)
			}
			for name, list := range f.File {
				files[name] = b.values(texts(list))
			}
			return
		}
	}
	m["data"] = printable(data, contentType)
	var v any
	if json.Unmarshal(data, &v) == nil {
		m["json"] = v
	}
}

func texts(files []*multipart.FileHeader) []string {
	var list []string
	for _, f := range files {
		r, err := f.Open()
		if err != nil {
			continue // it is in memory: only a closed form fails
		}
		data, _ := io.ReadAll(r) // as above
		r.Close()
		list = append(list, printable(data, f.Header.Get("Content-Type")))
	}
	return list
}

// printable is data as it is, or as a data URL if JSON cannot carry it.
func printable(data []byte, contentType string) string {
	if utf8.Valid(data) {
		return string(data)
	}
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	return "data:" + contentType + ";base64," + base64.StdEncoding.EncodeToString(data)
}

// headers are the request's fields. The original hides those that a proxy in
// front of it adds, unless show_env asks for them; but they are what people of a
// mesh want to see, and Istio's tasks print them.
func (b bin) headers(r *http.Request) map[string]any {
	m := map[string]any{"Host": b.values([]string{r.Host})}
	for name, values := range r.Header {
		m[name] = b.values(values)
	}
	if r.ContentLength > 0 && r.Header.Get("Content-Length") == "" {
		m["Content-Length"] = b.values([]string{itoa(r.ContentLength)})
	}
	return m
}

// values are shown as a list by go-httpbin always, by httpbin where there are
// several; of a header it joins them.
func (b bin) values(v []string) any {
	if !b.goStyle && len(v) == 1 {
		return v[0]
	}
	return v
}

func origin(r *http.Request) string {
	if f := r.Header.Get("X-Forwarded-For"); f != "" {
		return f
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
