package proxy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"
)

// GoesBy says, a thing on a line, what a proxy of a mesh goes by from its start that has these variables. What the control
// plane tells it of how its application is to be asked comes as JSON; a proxy that knows that itself is told nothing.
func GoesBy(o Options, probe string) (string, error) {
	e, err := readEnvironment(o)
	if err != nil {
		return "", err
	}
	node, err := e.node()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "workers %d\n", max(e.Concurrency, 1))
	fmt.Fprintf(&out, "administered at 127.0.0.1:%d, status at port %d\n", e.AdminPort, e.StatusPort)
	fmt.Fprintf(&out, "configured by %s\n", e.Discovery)
	fmt.Fprintf(&out, "drains listeners for %s, and itself for %s\n", e.DrainTime, e.Termination)
	if e.Type == "router" && e.ListenerLimit > 0 {
		fmt.Fprintf(&out, "each listener has %d connections\n", e.ListenerLimit)
	}
	for _, c := range e.Anchors {
		fmt.Fprintf(&out, "trusts whom %s vouches for, too\n", c.Subject)
	}
	for _, layer := range e.bootstrap(node).GetLayeredRuntime().GetLayers() {
		for _, key := range slices.Sorted(maps.Keys(layer.GetStaticLayer().GetFields())) {
			fmt.Fprintf(&out, "runtime %s = %s\n", key, show(layer.GetStaticLayer().GetFields()[key]))
		}
	}
	for _, p := range e.statsConfig().GetStatsMatcher().GetInclusionList().GetPatterns()[istioStatistics:] {
		fmt.Fprintf(&out, "shows statistics %s*%s%s\n", p.GetPrefix(), p.GetSuffix(), p.GetSafeRegex().GetRegex())
	}
	for _, key := range slices.Sorted(maps.Keys(node.GetMetadata().GetFields())) {
		if !strings.HasSuffix(key, "_VERSION") {
			fmt.Fprintf(&out, "says %s %s\n", key, show(node.GetMetadata().GetFields()[key]))
		}
	}
	asks := e.Probe
	if asks == nil && probe != "" {
		asks = &readinessProbe{}
		if err := json.Unmarshal([]byte(probe), asks); err != nil {
			return "", err
		}
	}
	if asks == nil {
		return out.String(), nil
	}
	ask, err := asks.try(e.IPs[0], nil)
	if err != nil {
		return "", err
	}
	p := asks.pace().WithDefaults()
	fmt.Fprintf(&out, "asks its application for %s, after %s every %s for %s; it is well after %d answers, and not after %d without\n",
		ask.what, p.Delay, p.Period, p.Timeout, p.Successes, p.Failures)
	return out.String(), nil
}

// show writes a value of a tree.
func show(v *structpb.Value) string {
	text, err := json.Marshal(v.AsInterface())
	if err != nil {
		return err.Error()
	}
	return string(text)
}
