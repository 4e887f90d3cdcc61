// Package apps is the table of the sample programs that are built into malla.
//
// There is no image registry on a laptop. An [App] stands for the well-known
// sample images that its patterns match and behaves as they do: same ports,
// paths, arguments, environment and answers. So the manifests that people have
// run unchanged. What an image does that its App does not is refused with an
// error that names it.
//
// A program is run as "malla sample NAME ARGS...". Nothing here knows about
// pods: which image runs which program on this machine, and what takes
// precedence over a built-in one, is decided by local/pods.
package apps

import (
	"context"
	"io"

	"github.com/mallamesh/malla/samples/apps/bookinfo"
	"github.com/mallamesh/malla/samples/apps/curl"
	"github.com/mallamesh/malla/samples/apps/hello"
	"github.com/mallamesh/malla/samples/apps/httpbin"
	"github.com/mallamesh/malla/samples/apps/load"
	"github.com/mallamesh/malla/samples/apps/nginx"
	"github.com/mallamesh/malla/samples/apps/soap"
	"github.com/mallamesh/malla/samples/apps/tcpecho"
)

// An App is one built-in program.
type App struct {
	Name   string   // as in "malla sample NAME"
	Images []string // patterns, see [Match]; empty for a program that is only run by name

	// Main runs the program until it is done or ctx ends. args are the
	// manifest's, without the program's name; the container's image is in
	// env("MALLA_IMAGE"). An error with an ExitCode() int method chooses the
	// exit code; a nil error is exit code 0.
	Main func(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error
}

// All lists the programs; where patterns of two overlap, the first one counts.
var All = []App{
	{"productpage", images("*/examples-bookinfo-productpage-*"), bookinfo.ProductPage},
	{"details", images("*/examples-bookinfo-details-*"), bookinfo.Details},
	{"reviews", images("*/examples-bookinfo-reviews-*"), bookinfo.Reviews},
	{"ratings", images("*/examples-bookinfo-ratings-*"), bookinfo.Ratings},
	{"ratingsdb", images("*/examples-bookinfo-ratingsdb*"), bookinfo.RatingsDB},
	{"httpbin", images("*/httpbin*", "*/go-httpbin*"), httpbin.Main},
	{"curl", images("*/curl*"), curl.Main},
	{"sleep", nil, curl.Sleep},
	{"helloworld", images("*/examples-helloworld-*"), hello.World},
	{"hello-app", images("gcr.io/google-samples/hello-app:*", "*/google-samples/*/hello-app:*"), hello.App},
	{"tcp-echo", images("*/tcp-echo-server*"), tcpecho.Main},
	{"nginx", images("nginx*", "*/nginx", "*/nginx:*"), nginx.Main},
	{"provider", images("malla/provider*"), soap.Provider},
	{"consumer", images("malla/consumer*"), soap.Consumer},
	{"load", images("malla/load*"), load.Main},
	{"fortio", images("*/fortio*"), load.Main},
}

func images(patterns ...string) []string { return patterns }

// Lookup returns the program called name.
func Lookup(name string) (App, bool) {
	for _, a := range All {
		if a.Name == name {
			return a, true
		}
	}
	return App{}, false
}

// ForImage returns the program that stands for a container image.
func ForImage(image string) (App, bool) {
	for _, a := range All {
		for _, p := range a.Images {
			if Match(p, image) {
				return a, true
			}
		}
	}
	return App{}, false
}
