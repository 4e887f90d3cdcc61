package version

import (
	"runtime/debug"
	"testing"
)

func TestVersionOfABuild(t *testing.T) {
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef"}
	for _, test := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"a tagged module says its tag", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}}, "1.2.3"},
		{"a checkout says its commit", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{revision}}, "0.1.0-g0123456789ab"},
		{"nothing known is still no (devel)", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, fallback},
	} {
		if got := fromBuildInfo(&test.info); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestLinkerWins(t *testing.T) {
	Number = "9.9.9"
	defer func() { Number = "" }()
	if got := String(); got != "9.9.9" {
		t.Errorf("String() = %q, want the linker's number", got)
	}
}
