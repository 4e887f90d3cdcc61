//go:build linux

package envoy_test

import (
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/envoy/chance"
	"github.com/mallamesh/malla/test/envoy/peer"
	"github.com/mallamesh/malla/test/envoy/scenario"
	"github.com/mallamesh/malla/test/process"
)

var (
	games    = flag.Int("games", 150, "how many connections of HTTP/2 TestChance plays, in each proxy")
	gameSeed = flag.Uint64("game", 1, "the first of their seeds")
)

// chanceScenario is what the games are played on; its upstream is this test's, which answers with what it has got.
const chanceScenario = `Games of chance.
alone: nobody else's
unlogged: games are compared by what clients see
-- hcm --
access_log: null
-- routes --
- {match: {prefix: /}, route: {cluster: told}}
-- clusters --
- {name: told, load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]}}
`

// TestChance plays games of chance over HTTP/2, most of them with one move that is wrong, on both proxies, and expects that their
// clients see the same.
func TestChance(t *testing.T) {
	s, sides := gamblers(t)
	inTurn(func(seed uint64) { chanced(t, sides, s, seed) })
}

// TestChanceHTTP1 is TestChance for HTTP/1.1.
func TestChanceHTTP1(t *testing.T) {
	s, sides := gamblers(t)
	inTurn(func(seed uint64) { chanced1(t, sides, s, seed) })
}

// inTurn plays some games at the same time.
func inTurn(play func(seed uint64)) {
	places := make(chan struct{}, 16)
	var group sync.WaitGroup
	for i := range *games {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			play(*gameSeed + uint64(i))
		})
	}
	group.Wait()
}

// gamblers starts both proxies in front of one upstream.
func gamblers(t *testing.T) (*scenario.Scenario, []*side) {
	t.Helper()
	told := tells(t)
	host, port, _ := net.SplitHostPort(told)
	s, err := scenario.Parse("chance/h2", fmt.Appendf(nil, chanceScenario, host, port))
	if err != nil {
		t.Fatal(err)
	}
	pki, err := peer.NewPKI(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s, newSides(t, []program{{path: process.Envoy(t), envoy: true}, {path: process.Proxy(t)}}, pki, []*scenario.Scenario{s}, 1)
}

// chanced plays one game. What differs is played again with more patience: that something is late is no difference.
func chanced(t *testing.T, sides []*side, s *scenario.Scenario, seed uint64) {
	g := chance.HTTP2(seed)
	var outcomes [2]*chance.Outcome
	why := ""
	for try := range 3 {
		calm := 100 * time.Millisecond << (2 * try)
		var group sync.WaitGroup
		for i, side := range sides {
			group.Go(func() {
				address, err := side.views[s.Name].Listener("")
				if err != nil {
					t.Error(err)
					return
				}
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				outcomes[i] = g.Play(c, 5*time.Second, calm)
			})
		}
		if group.Wait(); outcomes[0] == nil || outcomes[1] == nil {
			return
		}
		if why = chance.Unlike(outcomes[0], outcomes[1]); why == "" || meant(g, outcomes[0], outcomes[1]) {
			break
		}
	}
	if *show || why != "" && !meant(g, outcomes[0], outcomes[1]) {
		t.Logf("game %d: %s\n Envoy %s\n malla %s", seed, g, outcomes[0], outcomes[1])
	}
	if why != "" && !meant(g, outcomes[0], outcomes[1]) {
		t.Errorf("game %d: %s", seed, why)
	}
}

// meant reports whether a difference is one that ARCHITECTURE.md tells of.
func meant(g *chance.Game, envoy, malla *chance.Outcome) bool {
	window := strings.HasPrefix(g.Wrong, "window of ") && !strings.HasPrefix(g.Wrong, "window of 0 ")
	switch {
	case window && envoy.Ended && !malla.Ended: // an impossible window costs its stream (RFC 9113, sections 6.9 and 6.9.1)
		return true
	case malla.GoAway == "STREAM_CLOSED" && !envoy.Ended: // what comes for a stream that has ended (RFC 9113, section 5.1)
		return true
	case strings.HasPrefix(strings.ToLower(g.Wrong), "goaway") && malla.Ended && !envoy.Ended: // who takes its leave may go
		return true
	}
	return false
}

// An outcome1 is what a client of HTTP/1.1 has seen.
type outcome1 struct {
	answers []chance.Answer
	open    bool
}

func chanced1(t *testing.T, sides []*side, s *scenario.Scenario, seed uint64) {
	text, odd := chance.HTTP1(seed)
	var outcomes [2]outcome1
	same := func() bool {
		return slices.Equal(outcomes[0].answers, outcomes[1].answers) && outcomes[0].open == outcomes[1].open
	}
	for try := range 3 {
		var group sync.WaitGroup
		for i, side := range sides {
			group.Go(func() {
				address, err := side.views[s.Name].Listener("")
				if err != nil {
					t.Error(err)
					return
				}
				c, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				outcomes[i].answers, outcomes[i].open = chance.Ask1(c, seed, text, 300*time.Millisecond<<(2*try))
			})
		}
		if group.Wait(); same() || meant1(odd, outcomes) {
			break
		}
	}
	if !same() && !meant1(odd, outcomes) {
		t.Errorf("game %d, %s: Envoy %+v, malla %+v of\n%.600q", seed, odd, outcomes[0], outcomes[1], text)
	} else if *show {
		t.Logf("game %d, %s: %+v of\n%.600q", seed, odd, outcomes[1], text)
	}
}

// meant1 is meant for HTTP/1.1: malla may refuse what is odd, by a 400 or 501 and the end of the connection, where Envoy passes it on;
// never the other way round.
func meant1(odd string, outcomes [2]outcome1) bool {
	envoy, malla := outcomes[0].answers, outcomes[1].answers
	i := slices.IndexFunc(malla, func(a chance.Answer) bool {
		return a.Status == http.StatusBadRequest || a.Status == http.StatusNotImplemented
	})
	if strings.Contains(odd, " * ") && !outcomes[0].open && len(malla) > len(envoy) && slices.Equal(envoy, malla[:len(envoy)]) {
		return true // what a client has sent behind a request for * is lost in Envoy
	}
	return odd != "" && !outcomes[1].open && i >= 0 && i < len(envoy) && slices.Equal(envoy[:i], malla[:i])
}

// tells is an upstream that answers with what it has got.
func tells(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := fnv.New32a()
		n, err := io.Copy(sum, r.Body)
		var lines []string
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			if name != "X-Request-Id" {
				lines = append(lines, name+"="+strings.Join(r.Header[name], "|"))
			}
		}
		w.Header().Set("x-got", fmt.Sprintf("%s %s %s %d %x %v %v", r.Method, r.RequestURI, r.Host, n, sum.Sum32(), err, r.Trailer))
		w.Header().Set("x-got-fields", fmt.Sprintf("%x", fnvOf(strings.Join(lines, "\n"))))
		fmt.Fprint(w, strings.Join(lines, "\n"))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

func fnvOf(text string) uint32 {
	h := fnv.New32a()
	_, _ = io.WriteString(h, text)
	return h.Sum32()
}
