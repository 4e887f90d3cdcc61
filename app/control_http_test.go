package app

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

// accounts knows tokens of the form namespace/account.
type accounts map[string][2]string

func (a accounts) Review(_ context.Context, token string) (namespace, account string, err error) {
	who, ok := a[token]
	if !ok {
		return "", "", errors.New("unknown")
	}
	return who[0], who[1], nil
}

// The debug pages tell of the whole mesh: they are for this host, and for those who
// prove to be of the control plane's namespace.
func TestDebugPagesAreProtected(t *testing.T) {
	page := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	h := protected(page, accounts{"ours": {"istio-system", "istiod"}, "pod": {"default", "reviews"}}, "istio-system")
	for name, test := range map[string]struct {
		from, token string
		want        int
	}{
		"this host":                {"127.0.0.1:1000", "", http.StatusOK},
		"this host, IPv6":          {"[::1]:1000", "", http.StatusOK},
		"a pod":                    {"10.244.0.7:1000", "", http.StatusUnauthorized},
		"a pod with its token":     {"10.244.0.7:1000", "pod", http.StatusForbidden},
		"a pod with a wrong token": {"10.244.0.7:1000", "other", http.StatusUnauthorized},
		"one of our own":           {"10.244.0.7:1000", "ours", http.StatusOK},
		"nobody":                   {"", "", http.StatusUnauthorized},
	} {
		q := httptest.NewRequest("GET", "/debug/adsz", nil)
		q.RemoteAddr = test.from
		if test.token != "" {
			q.Header.Set("Authorization", "Bearer "+test.token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		if w.Code != test.want {
			t.Errorf("%s: %d, want %d", name, w.Code, test.want)
		}
	}
}
