package bookinfo

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/mallamesh/malla/samples/apps/internal/forward"
	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

//go:embed pages
var files embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{"stars": stars}).ParseFS(files, "pages/*.html"))

// A product is one row of /api/v1/products.
type product struct {
	ID          int           `json:"id"`
	Title       string        `json:"title"`
	Description template.HTML `json:"descriptionHtml"`
}

var products = []product{{
	ID:    0,
	Title: "The Comedy of Errors",
	Description: `<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">Wikipedia Summary</a>: The Comedy of Errors is one of ` +
		`<b>William Shakespeare's</b> early plays: two pairs of twins, one town, one day, and everybody mistaken for somebody else. ` +
		`It is his shortest play and among his most farcical, full of slapstick, puns and word play.`,
}}

const (
	noDetails = "Sorry, product details are currently unavailable for this book."
	noReviews = "Sorry, product reviews are currently unavailable for this book."
	noRatings = "Sorry, product ratings are currently unavailable for this book."
)

// A frontend is the productpage service.
type frontend struct {
	details, reviews, ratings string // base URLs
	client                    *http.Client
	pod                       string
	flood                     int
}

// ProductPage is the productpage service. FLOOD_FACTOR, as in the original,
// adds so many calls to reviews per page whose answers nobody waits for.
func ProductPage(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	f, err := newFrontend(env)
	if err != nil {
		return err
	}
	return serve.HTTP(ctx, listenPort(args), f.handler())
}

func newFrontend(env func(string) string) (*frontend, error) {
	f := &frontend{
		details: service(env, "details"), reviews: service(env, "reviews"), ratings: service(env, "ratings"),
		client: forward.Client(3 * time.Second), pod: instance(env),
	}
	if v := env("FLOOD_FACTOR"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 1000 {
			return nil, fmt.Errorf("environment FLOOD_FACTOR: found %q, want a number from 0 to 1000", v)
		}
		f.flood = n
	}
	return f, nil
}

func (f *frontend) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", f.index)
	mux.HandleFunc("GET /index.html", f.index)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "Product page is healthy")
	})
	mux.HandleFunc("GET /productpage", f.page)
	mux.HandleFunc("POST /login", login)
	mux.HandleFunc("GET /logout", func(w http.ResponseWriter, r *http.Request) {
		signOut(w)
		http.Redirect(w, r, "/productpage", http.StatusFound)
	})
	mux.HandleFunc("GET /static/{name}", static)
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, products)
	})
	mux.HandleFunc("GET /api/v1/products/{id}", func(w http.ResponseWriter, r *http.Request) {
		f.api(w, r, noDetails, f.details+"/details/", 1)
	})
	mux.HandleFunc("GET /api/v1/products/{id}/reviews", func(w http.ResponseWriter, r *http.Request) {
		f.api(w, r, noReviews, f.reviews+"/reviews/", reviewTries)
	})
	mux.HandleFunc("GET /api/v1/products/{id}/ratings", func(w http.ResponseWriter, r *http.Request) {
		f.api(w, r, noRatings, f.ratings+"/ratings/", 1)
	})
	return mux
}

// reviewTries is the tutorial's bug: two tries of three seconds each, while
// reviews itself waits ten for ratings. The fault injection task is about it.
const reviewTries = 2

func login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	if user := r.PostFormValue("username"); validUser(user) {
		signIn(w, user)
	}
	http.Redirect(w, r, "/productpage", http.StatusFound)
}

func static(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=300")
	http.ServeFileFS(w, r, files, "pages/static/"+r.PathValue("name"))
}

// get asks another service; the status is 500 if there was no answer.
func (f *frontend) get(r *http.Request, url string, tries int, into any) int {
	status := http.StatusInternalServerError
	for range tries {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
		if err != nil {
			return http.StatusInternalServerError
		}
		f.headers(req.Header, r)
		res, err := f.client.Do(req)
		if err != nil {
			status = http.StatusInternalServerError
			continue
		}
		status = res.StatusCode
		body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		res.Body.Close()
		if status != http.StatusOK {
			continue
		}
		if err == nil && json.Unmarshal(body, into) == nil {
			return status
		}
		status = http.StatusInternalServerError
	}
	return status
}

func (f *frontend) headers(dst http.Header, r *http.Request) {
	forward.Headers(dst, r.Header)
	if user := signedIn(r); user != "" {
		dst.Set("End-User", user)
	}
}

// api passes on what a service says about one product.
func (f *frontend) api(w http.ResponseWriter, r *http.Request, sorry, url string, tries int) {
	id, ok := productID(w, r)
	if !ok {
		return
	}
	var answer json.RawMessage
	if status := f.get(r, url+strconv.Itoa(id), tries, &answer); status != http.StatusOK {
		writeJSON(w, status, failure{sorry})
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// A bookPage is what pages/productpage.html shows.
type bookPage struct {
	User      string
	Pod       string
	Product   product
	Details   *bookDetails // nil: noDetails is shown
	Reviews   *bookReviews // nil: noReviews is shown
	NoDetails string
	NoReviews string
}

func (f *frontend) page(w http.ResponseWriter, r *http.Request) {
	p := bookPage{User: signedIn(r), Pod: f.pod, Product: products[0], NoDetails: noDetails, NoReviews: noReviews}
	for range f.flood {
		go f.drop(r.Clone(context.WithoutCancel(r.Context())))
	}
	var details bookDetails
	if f.get(r, f.details+"/details/0", 1, &details) == http.StatusOK {
		p.Details = &details
	}
	var reviews bookReviews
	if f.get(r, f.reviews+"/reviews/0", reviewTries, &reviews) == http.StatusOK {
		p.Reviews = &reviews
	}
	render(w, "productpage.html", p)
}

// drop asks for reviews and forgets the answer.
func (f *frontend) drop(r *http.Request) {
	var answer json.RawMessage
	f.get(r, f.reviews+"/reviews/0", 1, &answer)
}

// An indexPage is what pages/index.html shows.
type indexPage struct {
	User                      string
	Pod                       string
	Details, Reviews, Ratings string
}

func (f *frontend) index(w http.ResponseWriter, r *http.Request) {
	render(w, "index.html", indexPage{signedIn(r), f.pod, f.details, f.reviews, f.ratings})
}

func render(w http.ResponseWriter, name string, data any) {
	var page bytes.Buffer // so that an error is not half a page
	if err := pages.ExecuteTemplate(&page, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	h.Set("Cache-Control", "no-store") // each load is one more throw of the dice
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'")
	_, _ = w.Write(page.Bytes()) // a reader that has gone does not want it
}

// stars is one word per star of five, for the page's pictures.
func stars(n int) []string {
	list := make([]string, 5)
	for i := range list {
		list[i] = "empty"
		if i < n {
			list[i] = "full"
		}
	}
	return list
}
