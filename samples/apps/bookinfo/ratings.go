package bookinfo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// A bookRatings is the answer of /ratings/{id}.
type bookRatings struct {
	ID      int            `json:"id"`
	Ratings map[string]int `json:"ratings"` // stars by reviewer
}

// A ratingStore keeps the stars of each product.
type ratingStore interface {
	get(ctx context.Context, id int) (map[string]int, error)
	put(ctx context.Context, id int, stars map[string]int) error
}

var (
	errNoRatings = errors.New("ratings not found")
	errReadOnly  = errors.New("post not implemented for database backed ratings")
)

// Ratings is the ratings service. v1 keeps what is posted in memory; v2 reads
// from RATINGS_DB (ratingsdb:6379). Like the original's special versions,
// SERVICE_VERSION v-faulty answers half of the requests with 500, v-delayed
// half of them after seven seconds; RATINGS_DELAY delays all, by a Go duration.
func Ratings(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	h, closeStore, err := newRatings(env)
	if err != nil {
		return err
	}
	defer closeStore()
	return serve.HTTP(ctx, listenPort(args), h)
}

func newRatings(env func(string) string) (h http.Handler, closeStore func() error, err error) {
	for _, name := range []string{"MONGO_DB_URL", "MYSQL_DB_HOST", "DB_TYPE"} {
		if v := env(name); v != "" {
			return nil, nil, fmt.Errorf("environment %s=%s: MongoDB and MySQL are not built in, want RATINGS_DB=HOST:PORT of a service that speaks Redis' protocol (samples/bookinfo/platform/kube/bookinfo-db.yaml)", name, v)
		}
	}
	var delay time.Duration
	if v := env("RATINGS_DELAY"); v != "" {
		if delay, err = time.ParseDuration(v); err != nil || delay < 0 {
			return nil, nil, fmt.Errorf("environment RATINGS_DELAY: found %q, want a duration like 7s", v)
		}
	}
	var store ratingStore = &memoryRatings{}
	closeStore = func() error { return nil }
	trouble := func(http.ResponseWriter, *http.Request) bool { return false }
	switch v := version(env); v {
	case "v2":
		addr := env("RATINGS_DB")
		if addr == "" {
			addr = "ratingsdb:6379"
		}
		db := dialRatings(addr)
		store, closeStore = db, db.client.Close
	case "v-faulty":
		trouble = faulty
	case "v-delayed":
		trouble = func(_ http.ResponseWriter, r *http.Request) bool {
			return rand.IntN(2) == 0 && !pause(r.Context(), 7*time.Second)
		}
	case "v-unavailable", "v-unhealthy":
		return nil, nil, fmt.Errorf("ratings %s: this version is not built in, want v1, v2, v-faulty or v-delayed", v)
	}
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" || pause(r.Context(), delay) && !trouble(w, r) {
			ratings(store).ServeHTTP(w, r)
		}
	})
	return slow, closeStore, nil
}

func faulty(w http.ResponseWriter, _ *http.Request) bool {
	if rand.IntN(2) == 0 {
		return false
	}
	writeJSON(w, http.StatusInternalServerError, failure{"ratings is in trouble, as its version says"})
	return true
}

// pause waits and reports whether the caller is still there.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func ratings(store ratingStore) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, healthy{"Ratings is healthy"})
	})
	mux.HandleFunc("GET /ratings/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, ok := productID(w, r)
		if !ok {
			return
		}
		stars, err := store.get(r.Context(), id)
		switch {
		case errors.Is(err, errNoRatings):
			writeJSON(w, http.StatusNotFound, failure{err.Error()})
		case err != nil:
			writeJSON(w, http.StatusInternalServerError, failure{"could not connect to ratings database"})
		default:
			writeJSON(w, http.StatusOK, bookRatings{id, stars})
		}
	})
	mux.HandleFunc("POST /ratings/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, ok := productID(w, r)
		if !ok {
			return
		}
		var stars map[string]int
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&stars); err != nil {
			writeJSON(w, http.StatusBadRequest, failure{"please provide valid ratings JSON"})
			return
		}
		switch err := store.put(r.Context(), id, stars); {
		case errors.Is(err, errReadOnly):
			writeJSON(w, http.StatusNotImplemented, failure{err.Error()})
		case err != nil:
			writeJSON(w, http.StatusInsufficientStorage, failure{err.Error()})
		default:
			writeJSON(w, http.StatusOK, bookRatings{id, stars})
		}
	})
	return mux
}

// seed is what every product is rated until somebody says otherwise.
func seed() map[string]int { return map[string]int{"Reviewer1": 5, "Reviewer2": 4} }

// maxProducts bounds what posting can make the service keep.
const maxProducts = 10000

// memoryRatings keeps ratings until the process ends.
type memoryRatings struct {
	mu sync.Mutex
	by map[int]map[string]int // guarded by mu
}

func (m *memoryRatings) get(_ context.Context, id int) (map[string]int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if stars, ok := m.by[id]; ok {
		return maps.Clone(stars), nil
	}
	return seed(), nil
}

func (m *memoryRatings) put(_ context.Context, id int, stars map[string]int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = make(map[int]map[string]int)
	}
	if _, ok := m.by[id]; !ok && len(m.by) >= maxProducts {
		return fmt.Errorf("%d products are rated, which is all that fits", maxProducts)
	}
	m.by[id] = maps.Clone(stars)
	return nil
}

// redisRatings reads the hash ratings:ID, stars by reviewer.
type redisRatings struct{ client *redis.Client }

func dialRatings(addr string) *redisRatings {
	redis.SetLogger(silent{})
	return &redisRatings{redis.NewClient(&redis.Options{
		Addr:            addr,
		Protocol:        2, // no HELLO: what the wire carries can be read by eye
		DisableIdentity: true,
		DialTimeout:     2 * time.Second,
		ReadTimeout:     2 * time.Second,
		WriteTimeout:    2 * time.Second,
		DialerRetries:   1, // the sidecar and the caller retry; more tries only hide the failure
		MaxRetries:      1,
		PoolSize:        16,
	})}
}

// silent is the client's logger: a data service that is away is told to the
// caller, once per request, by the answer.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func (d *redisRatings) get(ctx context.Context, id int) (map[string]int, error) {
	fields, err := d.client.HGetAll(ctx, ratingsKey(id)).Result()
	if err != nil {
		return nil, fmt.Errorf("read ratings of product %d: %w", id, err)
	}
	if len(fields) == 0 {
		return nil, errNoRatings
	}
	stars := make(map[string]int, len(fields))
	for who, n := range fields {
		if stars[who], err = strconv.Atoi(n); err != nil {
			return nil, fmt.Errorf("ratings of product %d, %s: found %q, want a number", id, who, n)
		}
	}
	return stars, nil
}

func (d *redisRatings) put(context.Context, int, map[string]int) error { return errReadOnly }

func ratingsKey(id int) string { return "ratings:" + strconv.Itoa(id) }
