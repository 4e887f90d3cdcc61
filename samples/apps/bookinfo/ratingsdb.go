package bookinfo

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/alicebob/miniredis/v2"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// RatingsDB is the data service behind ratings v2: a Redis server that keeps
// its data in memory, with the ratings in hashes "ratings:0", ... Change one
// with any Redis client (HSET ratings:0 Reviewer1 1) and the page shows it. It
// listens on PORT (6379).
func RatingsDB(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	db, err := startRatingsDB(net.JoinHostPort("", serve.Port(env, "PORT", "6379")))
	if err != nil {
		return err
	}
	defer db.Close()
	<-ctx.Done()
	return nil
}

func startRatingsDB(addr string) (*miniredis.Miniredis, error) {
	db := miniredis.NewMiniRedis()
	for who, stars := range seed() {
		db.HSet(ratingsKey(0), who, strconv.Itoa(stars))
	}
	if err := db.StartAddr(addr); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return db, nil
}
