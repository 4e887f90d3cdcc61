package build

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"
)

// verdicts has pieces of configuration, each in its place, and what Envoy 1.40 says to them with --mode validate. A line
// that ends with "# malla" and the other verdict is one of the differences that ARCHITECTURE.md lists.
//
//go:embed testdata/verdicts
var verdicts string

// Whatever Envoy takes is taken, and whatever it refuses is refused.
func TestVerdictsOfEnvoy(t *testing.T) {
	for line := range strings.Lines(verdicts) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		rest, differs, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  # malla ")
		verdict, rest, _ := strings.Cut(rest, " ")
		place, piece, _ := strings.Cut(strings.TrimSpace(rest), " ")
		want := verdict
		if differs != "" {
			want = differs
		}
		err := judge(t, place, strings.ReplaceAll(piece, "⏎", "\n"))
		got := "takes"
		if err != nil {
			got = "refuses"
		}
		if got != want {
			t.Errorf("%s: malla %s it (%v), want as Envoy: %s", strings.TrimSpace(line), got, err, want)
		}
	}
}

// judge reads a bootstrap that holds a piece.
func judge(t *testing.T, place, piece string) error {
	t.Helper()
	at := map[string]string{"timeout": "1s", "route": "{match: {prefix: /}, route: {cluster: c}}"}
	indent := map[string]int{"hcm": 10, "host": 14, "listener": 4, "cluster": 4}[place]
	at[place] = piece
	if indent > 0 {
		at[place] = strings.ReplaceAll("\n"+piece, "\n", "\n"+strings.Repeat(" ", indent))
	}
	text := fmt.Sprintf(`static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}%s
    filter_chains:
    - filters:
      - name: h
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x%s
          route_config:
            name: r
            virtual_hosts:
            - name: v
              domains: ["*"]%s
              routes: [%s]
          http_filters:
          - {name: r, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: c
    connect_timeout: %s%s
`, at["listener"], at["hcm"], at["host"], at["route"], at["timeout"], at["cluster"])
	m, err := ParseBootstrap("b.yaml", []byte(text), nil)
	if err != nil {
		return err
	}
	b, err := NewBootstrap("b.yaml", m)
	if err != nil {
		return err
	}
	s := NewStore(testEnv(t), nil)
	defer s.Close()
	return s.Static(b)
}
