package nginx

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// give answers by a return directive.
func give(w http.ResponseWriter, x *exchange, s scope, a *answer) {
	if a.status == 444 { // nginx's own number: close without a word
		panic(http.ErrAbortHandler)
	}
	text := a.text.expand(x)
	switch {
	case a.given && isRedirect(a.status):
		redirectTo(w, x, s, a.status, text)
	case a.given:
		w.Header().Set("Content-Type", s.typeOf(x.path))
		s.add(w, x, a.status)
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, text)
	default:
		page(w, x, s, a.status)
	}
}

func isRedirect(status int) bool {
	return slices.Contains([]int{301, 302, 303, 307, 308}, status)
}

// redirect sends the client to another path of this server.
func redirect(w http.ResponseWriter, x *exchange, s scope, to string) {
	if q := x.r.URL.RawQuery; q != "" {
		to += "?" + q
	}
	redirectTo(w, x, s, http.StatusMovedPermanently, to)
}

// redirectTo makes an address of a path, with the port that was listened on, as
// nginx does unless absolute_redirect is off.
func redirectTo(w http.ResponseWriter, x *exchange, s scope, status int, to string) {
	if strings.HasPrefix(to, "/") {
		host := hostname(x.r.Host)
		if x.port != "80" {
			host += ":" + x.port
		}
		to = "http://" + host + to
	}
	w.Header().Set("Location", to)
	page(w, x, s, status)
}

// page answers with nginx's own page for a status.
func page(w http.ResponseWriter, x *exchange, s scope, status int) {
	s.add(w, x, status)
	title := fmt.Sprintf("%d %s", status, reason(status))
	body := "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	if status < 300 || status == http.StatusNotModified {
		body = ""
	} else {
		w.Header().Set("Content-Type", "text/html")
	}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = io.WriteString(w, body)
	}
}

// reason differs from the standard where nginx's pages do.
func reason(status int) string {
	switch status {
	case http.StatusFound:
		return "Moved Temporarily"
	case http.StatusMethodNotAllowed:
		return "Not Allowed"
	case http.StatusServiceUnavailable:
		return "Service Temporarily Unavailable"
	case http.StatusGatewayTimeout:
		return "Gateway Time-out"
	}
	return http.StatusText(status)
}

// add sets the fields of add_header, which without "always" are for successes
// and redirects only.
func (s scope) add(w http.ResponseWriter, x *exchange, status int) {
	success := slices.Contains([]int{200, 201, 204, 206, 301, 302, 303, 304, 307, 308}, status)
	for _, f := range s.addHeaders {
		if v := f.value.expand(x); v != "" && (success || f.always) {
			w.Header().Add(f.name, v)
		}
	}
}

// typeOf is the media type of a path's ending. nginx names no charset.
func (s scope) typeOf(p string) string {
	t, _, _ := strings.Cut(mime.TypeByExtension(path.Ext(p)), ";")
	if t == "" {
		return s.defaultType
	}
	return t
}

// file answers with a file below the root.
func (h *handler) file(w http.ResponseWriter, x *exchange, s scope) {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		page(w, x, s, http.StatusMethodNotAllowed)
		return
	}
	root := h.disk.root(s.root)
	names := []string{strings.TrimPrefix(x.path, "/")}
	isDir := strings.HasSuffix(x.path, "/")
	if isDir {
		names = nil
		for _, index := range s.index {
			names = append(names, path.Join(strings.TrimPrefix(x.path, "/"), index))
		}
	}
	for _, name := range names {
		f, err := root.Open(name)
		if err != nil {
			continue
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			continue
		}
		if info.IsDir() {
			redirect(w, x, s, x.path+"/")
			return
		}
		send(w, x, s, f, info)
		return
	}
	if isDir {
		if info, err := fs.Stat(root, path.Clean(strings.Trim(x.path, "/"))); err == nil && info.IsDir() {
			page(w, x, s, http.StatusForbidden) // a directory without an index is not listed
			return
		}
	}
	page(w, x, s, http.StatusNotFound)
}

func send(w http.ResponseWriter, x *exchange, s scope, f fs.File, info fs.FileInfo) {
	content, ok := f.(io.ReadSeeker)
	if !ok {
		page(w, x, s, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", s.typeOf(info.Name()))
	if !info.ModTime().IsZero() {
		w.Header().Set("ETag", fmt.Sprintf("\"%x-%x\"", info.ModTime().Unix(), info.Size()))
	}
	s.add(w, x, http.StatusOK)
	http.ServeContent(w, x.r, info.Name(), info.ModTime(), content)
}

// isTooLarge reports whether a body was larger than allowed.
func isTooLarge(err error) bool {
	var large *http.MaxBytesError
	return errors.As(err, &large)
}
