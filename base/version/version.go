// Package version says which malla this is.
//
// The number comes from the linker (`make` sets Number), else from the module's
// build information, else from the commit that the tool chain recorded. It is
// never empty and never "(devel)".
package version

import (
	"runtime/debug"
	"strings"
)

// Number is set by -ldflags "-X github.com/mallamesh/malla/base/version.Number=...".
var Number string

// String returns the version, for example "0.1.0-12-g3f2a91c".
func String() string {
	if Number != "" {
		return Number
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fallback
	}
	return fromBuildInfo(info)
}

// fallback is printed where nothing is known of the build.
const fallback = "0.1.0-unreleased"

func fromBuildInfo(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return strings.TrimPrefix(v, "v")
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "0.1.0-g" + s.Value[:12]
		}
	}
	return fallback
}
