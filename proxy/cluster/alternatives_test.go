package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mallamesh/malla/proxy/stats"
)

// Clients name statistics of their own, but neither without end nor with what is no name.
func TestNamedStatisticsAreBounded(t *testing.T) {
	reg := stats.NewRegistry(false)
	c, err := New(Config{Name: "c", Kind: Static}, reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "a b", "a\n", "é", "x.", "external", strings.Repeat("x", maxAlternativeName+1)} {
		if c.Named(name) != nil {
			t.Errorf("%q names statistics", name)
		}
	}
	first := c.Named("writes")
	if first == nil || c.Named("writes") != first {
		t.Fatal("a name does not stay with its statistics")
	}
	for i := range 1000 {
		c.Named(fmt.Sprint("n", i))
	}
	if n := len(c.named.all); n != maxAlternatives {
		t.Errorf("%d names have statistics, want %d", n, maxAlternatives)
	}
	if c.Named("writes") != first {
		t.Error("a name loses its statistics to others")
	}
	c.Close()
	var text strings.Builder
	if err := reg.WriteText(&text, stats.Options{}); err != nil || strings.Contains(text.String(), "cluster.c.") {
		t.Errorf("statistics outlive their cluster: %v, %s", err, text.String())
	}
}
