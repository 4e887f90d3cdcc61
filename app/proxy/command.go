package proxy

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/mallamesh/malla/proxy/admin"
)

// Options are the proxy's flags.
type Options struct {
	File        string        // an Envoy bootstrap; empty: a proxy of a mesh
	Validate    bool          // read the file, say what is wrong, and end
	Concurrency int           // workers; 0: as the environment says, else 1
	FlushEvery  time.Duration // access logs reach their files after this; 0: a second
	DrainTime   time.Duration // for listeners that go; 0: as the configuration says
	Level       *slog.LevelVar
	Log         *slog.Logger
	Type        string // sidecar or router; empty: sidecar
	Getenv      func(string) string
	Environ     func() []string
	Out         io.Writer // for what --mode validate says
}

// ErrUsage is the error of a command line that makes no sense.
type ErrUsage struct{ Err error }

func (e ErrUsage) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e ErrUsage) Unwrap() error { return e.Err }

// Command reads the flags of `malla proxy run` and `malla-proxy` and runs the proxy until
// ctx ends. name is for messages.
func Command(ctx context.Context, name string, args []string, stdout, stderr io.Writer) error {
	o := Options{Level: new(slog.LevelVar), Getenv: os.Getenv, Environ: os.Environ, Out: stdout}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.File, "c", "", "run with this Envoy `bootstrap` (YAML or JSON)")
	f.StringVar(&o.File, "config-path", "", "same as -c")
	mode := f.String("mode", "serve", "serve, or validate: read the bootstrap, say what is wrong, and end")
	f.IntVar(&o.Concurrency, "concurrency", 0, "number of workers (default 1)")
	level := f.String("log-level", "", "trace, debug, info, warning, error, critical or off")
	f.StringVar(level, "l", "", "same as --log-level")
	f.StringVar(&o.Type, "type", "", "sidecar or router (a gateway), in a mesh")
	flush := f.Uint("file-flush-interval-msec", 0, "access logs reach their files after so many `ms` (default 1000)")
	drain := f.Uint("drain-time-s", 0, "`seconds` that connections of a listener that goes have to end (default 600 with -c)")
	f.Bool("use-dynamic-base-id", false, "without effect: processes share nothing that would need an id")
	if err := f.Parse(args); err != nil {
		return ErrUsage{err}
	}
	o.FlushEvery, o.DrainTime = time.Duration(*flush)*time.Millisecond, time.Duration(*drain)*time.Second
	if f.NArg() > 0 {
		return ErrUsage{fmt.Errorf("found argument %q, want flags only", f.Arg(0))}
	}
	switch *mode {
	case "serve":
	case "validate":
		o.Validate = true
	default:
		return ErrUsage{fmt.Errorf("--mode: found %q, want serve or validate", *mode)}
	}
	if o.Validate && o.File == "" {
		return ErrUsage{fmt.Errorf("--mode validate needs a bootstrap: -c FILE")}
	}
	if *level != "" {
		l, err := admin.ParseLevel(*level)
		if err != nil {
			return ErrUsage{fmt.Errorf("--log-level: %w", err)}
		}
		o.Level.Set(l)
	}
	o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.Level}))
	return Run(ctx, o)
}
