package httpbin

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// teapot is the picture of the original's 418, byte for byte: 135 of them, by
// which people recognize that an answer has passed whole.
const teapot = "\n    -=[ teapot ]=-\n\n       _...._\n     .'  _ _ `.\n    | .\"` ^ `\". _,\n    \\_;`\"---\"`|//\n      |       ;/\n      \\_     _/\n        `\"\"\"`\n"

// statuses has /status/CODE and /status/CODE:WEIGHT,CODE:WEIGHT.
func (b bin) statuses(mux *http.ServeMux) {
	mux.HandleFunc("/status/{codes}", func(w http.ResponseWriter, r *http.Request) {
		code, err := choose(r.PathValue("codes"))
		if err != nil {
			http.Error(w, "Invalid status code: "+err.Error(), http.StatusBadRequest)
			return
		}
		b.status(w, code)
	})
}

// choose picks one of a list of codes by weight.
func choose(list string) (int, error) {
	type share struct {
		code   int
		weight float64
	}
	var shares []share
	total := 0.0
	for item := range strings.SplitSeq(list, ",") {
		code, weight, weighted := strings.Cut(item, ":")
		s := share{weight: 1}
		var err error
		// Below 200 an answer is not final, and net/http sends none above 999.
		if s.code, err = strconv.Atoi(strings.TrimSpace(code)); err != nil || s.code < 200 || s.code > 999 {
			return 0, fmt.Errorf("found %q, want a number from 200 to 999", code)
		}
		if weighted {
			if s.weight, err = strconv.ParseFloat(weight, 64); err != nil || !(s.weight >= 0 && s.weight <= 1e9) {
				return 0, fmt.Errorf("found weight %q, want a number from 0 on", weight)
			}
		}
		total += s.weight
		shares = append(shares, s)
	}
	at := rand.Float64() * total
	for _, s := range shares {
		if at < s.weight {
			return s.code, nil
		}
		at -= s.weight
	}
	return shares[len(shares)-1].code, nil
}

func (b bin) status(w http.ResponseWriter, code int) {
	h := w.Header()
	text := ""
	h.Set("Content-Type", "text/html; charset=utf-8")
	switch code {
	case 301, 302, 303, 305, 307:
		h.Set("Location", "/redirect/1")
	case 401:
		h.Set("WWW-Authenticate", `Basic realm="Fake Realm"`)
	case 402:
		text = "Payment is due."
	case 406:
		h.Set("Content-Type", "application/json")
		text = `{"message": "Client did not request a supported media type.", "accept": ["image/webp", "image/svg+xml", "image/jpeg", "image/png", "image/*"]}`
	case 407:
		h.Set("Proxy-Authenticate", `Basic realm="Fake Realm"`)
	case 418:
		h.Set("X-More-Info", "http://tools.ietf.org/html/rfc2324")
		text = teapot
		if b.goStyle {
			text = "I'm a teapot!"
		} else {
			h["Content-Type"] = nil // the original sends none here
		}
	}
	if code == http.StatusNoContent || code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	body(w, code, text)
}
