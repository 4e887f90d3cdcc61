package httpbin

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"embed"
	"encoding/base64"
	"encoding/json"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"strconv"
	"strings"
)

//go:embed data
var data embed.FS

// formats has the paths that answer with documents, pictures and codings.
func (b bin) formats(mux *http.ServeMux) {
	for path, file := range map[string]struct{ name, contentType string }{
		"/{$}":           {"index.html", "text/html; charset=utf-8"},
		"/html":          {"page.html", "text/html; charset=utf-8"},
		"/json":          {"slides.json", "application/json"},
		"/xml":           {"slides.xml", "application/xml"},
		"/robots.txt":    {"robots.txt", "text/plain"},
		"/deny":          {"deny.txt", "text/plain"},
		"/encoding/utf8": {"utf8.html", "text/html; charset=utf-8"},
		"/image/svg":     {"picture.svg", "image/svg+xml"},
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			text, err := data.ReadFile("data/" + file.name)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("Content-Type", file.contentType)
			body(w, http.StatusOK, string(text))
		})
	}
	mux.HandleFunc("GET /image/png", func(w http.ResponseWriter, r *http.Request) { picture(w, "image/png") })
	mux.HandleFunc("GET /image/jpeg", func(w http.ResponseWriter, r *http.Request) { picture(w, "image/jpeg") })
	mux.HandleFunc("GET /image", func(w http.ResponseWriter, r *http.Request) {
		switch accept := r.Header.Get("Accept"); {
		case strings.Contains(accept, "image/jpeg"):
			picture(w, "image/jpeg")
		case accept == "" || strings.Contains(accept, "image/png") || strings.Contains(accept, "image/*") || strings.Contains(accept, "*/*"):
			picture(w, "image/png")
		default:
			b.status(w, http.StatusNotAcceptable)
		}
	})
	mux.HandleFunc("GET /gzip", func(w http.ResponseWriter, r *http.Request) {
		b.coded(w, r, "gzip", "gzipped", func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	})
	mux.HandleFunc("GET /deflate", func(w http.ResponseWriter, r *http.Request) {
		b.coded(w, r, "deflate", "deflated", func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }) // RFC 9110, section 8.4.1.2: the zlib format
	})
	decode := func(w http.ResponseWriter, r *http.Request) {
		text := strings.TrimRight(r.PathValue("text"), "=")
		for _, coding := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
			if b, err := coding.DecodeString(text); err == nil {
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				body(w, http.StatusOK, string(b))
				return
			}
		}
		http.Error(w, "Incorrect Base64 data try: SFRUUEJJTiBpcyBhd2Vzb21l", http.StatusBadRequest)
	}
	mux.HandleFunc("GET /base64/{text}", decode)
	mux.HandleFunc("GET /base64/decode/{text}", decode)
	mux.HandleFunc("GET /base64/encode/{text}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		body(w, http.StatusOK, base64.URLEncoding.EncodeToString([]byte(r.PathValue("text"))))
	})
}

// coded answers with a compressed description of the request, whether or not
// the client said that it understands it: that is what the path is for.
func (b bin) coded(w http.ResponseWriter, r *http.Request, coding, flag string, writer func(io.Writer) io.WriteCloser) {
	m := b.request(r)
	delete(m, "args")
	delete(m, "url")
	m["method"], m[flag] = r.Method, true
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var out bytes.Buffer
	c := writer(&out)
	_, _ = c.Write(append(text, '\n')) // a Buffer does not fail
	_ = c.Close()
	w.Header().Set("Content-Encoding", coding)
	w.Header().Set("Content-Type", "application/json")
	body(w, http.StatusOK, out.String())
}

// picture draws a small gradient.
func picture(w http.ResponseWriter, contentType string) {
	const size = 100
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			img.Set(x, y, color.RGBA{uint8(40 + x), uint8(60 + y), 150, 255})
		}
	}
	var out bytes.Buffer
	encode := png.Encode
	if contentType == "image/jpeg" {
		encode = func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }
	}
	if err := encode(&out, img); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	_, _ = w.Write(out.Bytes())
}
