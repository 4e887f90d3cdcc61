package httpbin

import (
	"crypto/subtle"
	"net/http"
	"strings"
)

// auth has the paths that want a password or a token.
func (b bin) auth(mux *http.ServeMux) {
	mux.HandleFunc("GET /basic-auth/{user}/{password}", func(w http.ResponseWriter, r *http.Request) {
		user, ok := b.basic(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="Fake Realm"`)
			body(w, http.StatusUnauthorized, "")
			return
		}
		b.authenticated(w, user)
	})
	mux.HandleFunc("GET /hidden-basic-auth/{user}/{password}", func(w http.ResponseWriter, r *http.Request) {
		user, ok := b.basic(r)
		if !ok {
			http.NotFound(w, r)
			return
		}
		b.authenticated(w, user)
	})
	mux.HandleFunc("GET /bearer", func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			body(w, http.StatusUnauthorized, "")
			return
		}
		writeJSON(w, map[string]any{"authenticated": true, "token": token})
	})
}

func (b bin) basic(r *http.Request) (user string, ok bool) {
	user, password, _ := r.BasicAuth()
	return user, same(user, r.PathValue("user")) && same(password, r.PathValue("password"))
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (b bin) authenticated(w http.ResponseWriter, user string) {
	m := map[string]any{"authenticated": true, "user": user}
	if b.goStyle {
		m["authorized"] = true
	}
	writeJSON(w, m)
}
