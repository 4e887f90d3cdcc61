package bookinfo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/mallamesh/malla/samples/apps/internal/forward"
	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// A bookDetails is the answer of /details/{id}.
type bookDetails struct {
	ID        int    `json:"id"`
	Author    string `json:"author"`
	Year      any    `json:"year"` // a number of ours, a date of the external service
	Type      string `json:"type"`
	Pages     int    `json:"pages"`
	Publisher string `json:"publisher"`
	Language  string `json:"language"`
	ISBN10    string `json:"ISBN-10"`
	ISBN13    string `json:"ISBN-13"`
}

// Details is the details service. With ENABLE_EXTERNAL_BOOK_SERVICE=true (the
// original's v2) it asks Google Books, with DO_NOT_ENCRYPT=true by plain HTTP
// to port 443, for a mesh that adds TLS on the way out.
func Details(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	external := ""
	if env("ENABLE_EXTERNAL_BOOK_SERVICE") == "true" {
		external = "https://www.googleapis.com/books/v1/volumes"
		if env("DO_NOT_ENCRYPT") == "true" {
			external = "http://www.googleapis.com:443/books/v1/volumes"
		}
	}
	return serve.HTTP(ctx, listenPort(args), details(external))
}

func details(external string) http.Handler {
	client := forward.Client(5 * time.Second)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, healthy{"Details is healthy"})
	})
	mux.HandleFunc("GET /details/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, ok := productID(w, r)
		if !ok {
			return
		}
		if external == "" {
			writeJSON(w, http.StatusOK, bookDetails{
				ID: id, Author: "William Shakespeare", Year: 1595, Type: "paperback", Pages: 200,
				Publisher: "PublisherA", Language: "English", ISBN10: "1234567890", ISBN13: "123-1234567890",
			})
			return
		}
		d, err := lookUp(r, client, external, id)
		if err != nil {
			writeJSON(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, d)
	})
	return mux
}

// lookUp asks the external book service for the book's ISBN.
func lookUp(r *http.Request, client *http.Client, base string, id int) (bookDetails, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, base+"?q=isbn:0486424618", nil)
	if err != nil {
		return bookDetails{}, err
	}
	forward.Headers(req.Header, r.Header)
	res, err := client.Do(req)
	if err != nil {
		return bookDetails{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return bookDetails{}, fmt.Errorf("%s answered %s, want 200", base, res.Status)
	}
	var found struct {
		Items []struct {
			VolumeInfo struct {
				Authors             []string
				PublishedDate       string
				PrintType           string
				PageCount           int
				Publisher           string
				Language            string
				IndustryIdentifiers []struct{ Type, Identifier string }
			}
		}
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&found); err != nil {
		return bookDetails{}, fmt.Errorf("answer of %s: %w", base, err)
	}
	if len(found.Items) == 0 {
		return bookDetails{}, fmt.Errorf("%s does not know the book", base)
	}
	v := found.Items[0].VolumeInfo
	d := bookDetails{ID: id, Year: v.PublishedDate, Type: "unknown", Pages: v.PageCount, Publisher: v.Publisher, Language: "unknown"}
	if len(v.Authors) > 0 {
		d.Author = v.Authors[0]
	}
	if v.PrintType == "BOOK" {
		d.Type = "paperback"
	}
	if v.Language == "en" {
		d.Language = "English"
	}
	for _, isbn := range v.IndustryIdentifiers {
		switch isbn.Type {
		case "ISBN_10":
			d.ISBN10 = isbn.Identifier
		case "ISBN_13":
			d.ISBN13 = isbn.Identifier
		}
	}
	return d, nil
}
