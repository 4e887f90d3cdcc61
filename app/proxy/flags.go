package proxy

import (
	"flag"
	"fmt"
	"strings"

	"github.com/mallamesh/malla/proxy/admin"
)

// What becomes of a flag of Envoy's that malla-proxy has no use for.
type fate int

const (
	moot    fate = iota // nothing is lost: what it is about does not exist here
	warned              // taken, and a warning says that it does nothing
	refused             // without it the proxy would do something else than was asked for
)

// envoyFlags are the flags that wrappers of Envoy pass and that malla-proxy does not
// act upon. Every flag of Envoy's is either here or in [Command].
var envoyFlags = []struct {
	name  string
	value string // what it takes, in a word; empty: nothing
	fate  fate
	why   string
}{
	{"disable-hot-restart", "", moot, "there is no hot restart"},
	{"base-id", "id", moot, "processes share nothing that would need an id"},
	{"use-dynamic-base-id", "", moot, "processes share nothing that would need an id"},
	{"parent-shutdown-time-s", "seconds", moot, "there is no hot restart"},
	{"skip-hot-restart-on-no-parent", "", moot, "there is no hot restart"},
	{"skip-hot-restart-parent-stats", "", moot, "there is no hot restart"},
	{"socket-path", "path", moot, "there is no hot restart"},
	{"socket-mode", "mode", moot, "there is no hot restart"},
	{"reject-unknown-dynamic-fields", "", moot, "unknown fields are always refused"},
	{"skip-deprecated-logs", "", moot, "deprecated fields are not logged"},
	{"log-stacktrace-single-entry", "", moot, "a stack is not logged line by line"},
	{"enable-fine-grain-logging", "", warned, "all files have the level of --log-level"},
	{"log-format", "format", warned, "lines of the log are key=value"},
	{"log-format-escaped", "", warned, "lines of the log are always escaped"},
	{"file-flush-min-size-kb", "kilobytes", warned, "access logs are written by time"},
	{"base-id-path", "path", refused, "there is no base id to write"},
	{"allow-unknown-static-fields", "", refused, "no field is ignored in silence"},
	{"allow-unknown-fields", "", refused, "no field is ignored in silence"},
	{"ignore-unknown-dynamic-fields", "", refused, "no field is ignored in silence"},
	{"disable-extensions", "names", refused, "extensions cannot be taken out"},
	{"stats-tag", "tag:value", refused, "statistics have no tags of their own"},
	{"enable-core-dump", "", refused, "say GOTRACEBACK=crash"},
	{"enable-mutex-tracing", "", refused, "nobody traces locks"},
}

// addEnvoyFlags declares them; warn is called for what is taken and does nothing.
func addEnvoyFlags(f *flag.FlagSet, warn func(string)) {
	for _, e := range envoyFlags {
		take := func(string) error {
			switch e.fate {
			case warned:
				warn(fmt.Sprintf("--%s has no effect: %s", e.name, e.why))
			case refused:
				return fmt.Errorf("is not supported: %s", e.why)
			}
			return nil
		}
		usage := "without effect: " + e.why
		if e.fate == refused {
			usage = "refused: " + e.why
		}
		if e.value == "" {
			f.BoolFunc(e.name, usage, take)
		} else {
			f.Func(e.name, usage+" (`"+e.value+"`)", take)
		}
	}
	f.Func("component-log-level", "without effect: all components have the level of --log-level (`component:level,...`)", func(text string) error {
		for pair := range strings.SplitSeq(text, ",") {
			_, level, ok := strings.Cut(pair, ":")
			if !ok {
				return fmt.Errorf("found %q, want COMPONENT:LEVEL", pair)
			}
			if _, err := admin.ParseLevel(level); err != nil {
				return err
			}
		}
		warn("--component-log-level has no effect: all components have the level of --log-level")
		return nil
	})
	oneOf(f, "restart-epoch", "0", "there is no hot restart: start a new process beside the old one, and stop that")
	oneOf(f, "local-address-ip-version", "v4", "the node has no address of another kind")
}

// oneOf declares a flag of which malla-proxy does one value only.
func oneOf(f *flag.FlagSet, name, value, why string) {
	f.Func(name, fmt.Sprintf("only `%s`: %s", value, why), func(text string) error {
		if text != value {
			return fmt.Errorf("found %q, want %s: %s", text, value, why)
		}
		return nil
	})
}
