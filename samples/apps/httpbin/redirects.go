package httpbin

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// redirects has the paths that send the client on.
func (b bin) redirects(mux *http.ServeMux) {
	hop := func(prefix string, absolute func(*http.Request) bool) {
		mux.HandleFunc("GET /"+prefix+"/{n}", func(w http.ResponseWriter, r *http.Request) {
			n, ok := number(w, r, "n", 1, 100)
			if !ok {
				return
			}
			to := "/get"
			if n > 1 {
				to = fmt.Sprintf("/%s/%d", prefix, n-1)
			}
			if absolute(r) {
				to = "http://" + r.Host + to
			} else if n > 1 {
				to = fmt.Sprintf("/relative-redirect/%d", n-1)
			}
			moved(w, to, http.StatusFound)
		})
	}
	never := func(*http.Request) bool { return false }
	hop("redirect", func(r *http.Request) bool { return r.URL.Query().Get("absolute") == "true" })
	hop("relative-redirect", never)
	hop("absolute-redirect", func(*http.Request) bool { return true })
	mux.HandleFunc("/redirect-to", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		to, err := url.Parse(q.Get("url"))
		code := query(r, "status_code", http.StatusFound)
		if err != nil || q.Get("url") == "" || code < 300 || code > 399 {
			http.Error(w, fmt.Sprintf("url %q, status_code %d: want an address and a status from 300 to 399", q.Get("url"), code), http.StatusBadRequest)
			return
		}
		moved(w, to.String(), code)
	})
}

func moved(w http.ResponseWriter, to string, code int) {
	w.Header().Set("Location", to)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(code)
}

// cookies has the paths about cookies.
func (b bin) cookies(mux *http.ServeMux) {
	set := func(w http.ResponseWriter, name, value string) {
		http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/"})
	}
	mux.HandleFunc("GET /cookies", func(w http.ResponseWriter, r *http.Request) {
		m := map[string]string{}
		for _, c := range r.Cookies() {
			m[c.Name] = c.Value
		}
		if b.goStyle {
			writeJSON(w, m)
			return
		}
		writeJSON(w, map[string]any{"cookies": m})
	})
	mux.HandleFunc("GET /cookies/set", func(w http.ResponseWriter, r *http.Request) {
		for name := range r.URL.Query() {
			set(w, name, r.URL.Query().Get(name))
		}
		moved(w, "/cookies", http.StatusFound)
	})
	mux.HandleFunc("GET /cookies/set/{name}/{value}", func(w http.ResponseWriter, r *http.Request) {
		set(w, r.PathValue("name"), r.PathValue("value"))
		moved(w, "/cookies", http.StatusFound)
	})
	mux.HandleFunc("GET /cookies/delete", func(w http.ResponseWriter, r *http.Request) {
		for name := range r.URL.Query() {
			http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Expires: time.Unix(1, 0)})
		}
		moved(w, "/cookies", http.StatusFound)
	})
}

// caches has the paths about conditional requests.
func (b bin) caches(mux *http.ServeMux) {
	mux.HandleFunc("GET /cache", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Modified-Since") != "" || r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"malla"`)
		writeJSON(w, b.request(r))
	})
	mux.HandleFunc("GET /cache/{n}", func(w http.ResponseWriter, r *http.Request) {
		if n, ok := number(w, r, "n", 0, 1<<30); ok {
			w.Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(n))
			writeJSON(w, b.request(r))
		}
	})
	mux.HandleFunc("GET /etag/{etag}", func(w http.ResponseWriter, r *http.Request) {
		tag := `"` + r.PathValue("etag") + `"`
		w.Header().Set("ETag", tag)
		none, match := r.Header.Get("If-None-Match"), r.Header.Get("If-Match")
		switch {
		case none != "" && (none == "*" || none == tag || "W/"+tag == none):
			w.WriteHeader(http.StatusNotModified)
		case match != "" && match != "*" && match != tag:
			w.WriteHeader(http.StatusPreconditionFailed)
		default:
			writeJSON(w, b.request(r))
		}
	})
}
