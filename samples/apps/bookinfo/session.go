package bookinfo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// sessionKey signs the cookie that says who is signed in. It is no secret: the
// shop takes any password, and all replicas of the page must agree on the key.
// The signature only keeps apart the shop's own cookies from others' called
// "session".
var sessionKey = []byte("malla bookinfo sample")

const sessionCookie = "session"

// maxUser bounds a user's name, which goes into a header of every call.
const maxUser = 64

// validUser reports whether a name may go into the end-user header.
func validUser(name string) bool {
	if name == "" || len(name) > maxUser {
		return false
	}
	for _, b := range []byte(name) {
		if b < ' ' || b > '~' {
			return false
		}
	}
	return strings.TrimSpace(name) == name
}

func signIn(w http.ResponseWriter, user string) {
	value := base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + signature(user)
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func signOut(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1})
}

// signedIn is the user's name, or empty.
func signedIn(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	name, mac, _ := strings.Cut(c.Value, ".")
	user, err := base64.RawURLEncoding.DecodeString(name)
	if err != nil || !validUser(string(user)) || !hmac.Equal([]byte(mac), []byte(signature(string(user)))) {
		return ""
	}
	return string(user)
}

func signature(user string) string {
	h := hmac.New(sha256.New, sessionKey)
	h.Write([]byte(user))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
