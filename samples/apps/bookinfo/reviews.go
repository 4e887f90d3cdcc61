package bookinfo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mallamesh/malla/samples/apps/internal/forward"
	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// A bookReviews is the answer of /reviews/{id}.
type bookReviews struct {
	ID      string   `json:"id"`
	Pod     string   `json:"podname"`
	Cluster string   `json:"clustername"`
	Reviews []review `json:"reviews"`
}

type review struct {
	Reviewer string  `json:"reviewer"`
	Text     string  `json:"text"`
	Rating   *rating `json:"rating,omitempty"` // nil: this version knows no stars
}

// A rating has stars and their color, or says why not.
type rating struct {
	Stars int    `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

// A reviewService is one version of the reviews service.
type reviewService struct {
	ratings      string // base URL; empty: no stars
	color        string
	client       *http.Client
	pod, cluster string
}

// Reviews is the reviews service. v1 shows no stars, v2 black ones, v3 red
// ones; ENABLE_RATINGS and STAR_COLOR say otherwise.
func Reviews(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	return serve.HTTP(ctx, listenPort(args), newReviews(env).handler())
}

func newReviews(env func(string) string) *reviewService {
	v := version(env)
	s := &reviewService{pod: instance(env), cluster: env("CLUSTER_NAME"), color: env("STAR_COLOR")}
	if s.cluster == "" {
		s.cluster = "null"
	}
	if s.color == "" {
		s.color = "black"
		if v == "v3" {
			s.color = "red"
		}
	}
	enabled := env("ENABLE_RATINGS")
	if enabled == "" && v != "v1" || strings.EqualFold(enabled, "true") {
		s.ratings = service(env, "ratings")
	}
	// The original waits long for black stars and not for the others: the first
	// is the bug that the fault injection task finds, the second its repair.
	timeout := 2500 * time.Millisecond
	if s.color == "black" {
		timeout = 10 * time.Second
	}
	s.client = forward.Client(timeout)
	return s
}

func (s *reviewService) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, healthy{"Reviews is healthy"})
	})
	mux.HandleFunc("GET /reviews/{id}", func(w http.ResponseWriter, r *http.Request) {
		if id, ok := productID(w, r); ok {
			writeJSON(w, http.StatusOK, s.reviews(r, id))
		}
	})
	return mux
}

func (s *reviewService) reviews(r *http.Request, id int) bookReviews {
	list := []review{
		{Reviewer: "Reviewer1", Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
		{Reviewer: "Reviewer2", Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
	}
	if s.ratings != "" {
		stars, err := s.stars(r, id)
		for i := range list {
			n, ok := stars[list[i].Reviewer]
			list[i].Rating = &rating{Stars: n, Color: s.color}
			if err != nil || !ok {
				list[i].Rating = &rating{Error: "Ratings service is currently unavailable"}
			}
		}
	}
	return bookReviews{ID: fmt.Sprint(id), Pod: s.pod, Cluster: s.cluster, Reviews: list}
}

// stars asks the ratings service for the stars by reviewer.
func (s *reviewService) stars(r *http.Request, id int) (map[string]int, error) {
	url := fmt.Sprintf("%s/ratings/%d", s.ratings, id)
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	forward.Headers(req.Header, r.Header)
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16)) // keeps the connection
		return nil, fmt.Errorf("%s answered %s", url, res.Status)
	}
	var answer bookRatings
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", url, err)
	}
	return answer.Ratings, nil
}
