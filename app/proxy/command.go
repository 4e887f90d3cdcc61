package proxy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/mallamesh/malla/base/version"
	"github.com/mallamesh/malla/proxy/admin"
)

// Options are the proxy's flags.
type Options struct {
	File        string        // an Envoy bootstrap
	YAML        string        // an Envoy bootstrap, merged into the file's; neither: a proxy of a mesh
	Node        string        // replaces the bootstrap's node.id
	Cluster     string        // replaces the bootstrap's node.cluster
	Zone        string        // replaces the bootstrap's node.locality.zone
	AdminPath   string        // a file that the administration interface's address is written to
	Validate    bool          // read the file, say what is wrong, and end
	Concurrency int           // workers; 0: as the environment says, else 1
	FlushEvery  time.Duration // access logs reach their files after this; 0: a second
	DrainTime   time.Duration // for listeners that go; 0: as the configuration says
	Immediate   bool          // connections of these end with their next response, not more and more of them; so always in a mesh
	Level       *slog.LevelVar
	Log         *slog.Logger
	Type        string // sidecar or router; empty: sidecar
	Getenv      func(string) string
	Environ     func() []string
	Out         io.Writer // for what --mode validate says
	reopen      func()    // opens the log anew; nil: it is not a file
}

// static reports whether a bootstrap was given.
func (o *Options) static() bool { return o.File != "" || o.YAML != "" }

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
	f.SetOutput(io.Discard) // what is wrong is one line, not that and all there is
	f.StringVar(&o.File, "c", "", "run with this Envoy `bootstrap` (YAML, JSON, or protobuf: .pb, .pb_text)")
	f.StringVar(&o.File, "config-path", "", "same as -c")
	f.StringVar(&o.YAML, "config-yaml", "", "an Envoy bootstrap in this `text`, merged into that of -c")
	f.StringVar(&o.Node, "service-node", "", "`id` of the node, in place of the bootstrap's")
	f.StringVar(&o.Cluster, "service-cluster", "", "`name` of the node's cluster, in place of the bootstrap's")
	f.StringVar(&o.Zone, "service-zone", "", "`name` of the node's zone, in place of the bootstrap's")
	f.StringVar(&o.AdminPath, "admin-address-path", "", "write the address of the administration interface to this `file`")
	mode := f.String("mode", "serve", "serve, or validate: read the bootstrap, say what is wrong, and end")
	f.IntVar(&o.Concurrency, "concurrency", 0, "number of workers (default 1)")
	cpus := f.Bool("cpuset-threads", false, "a worker for each processor that the process may use, without --concurrency")
	level := f.String("log-level", "", "trace, debug, info, warning, error, critical or off")
	f.StringVar(level, "l", "", "same as --log-level")
	logPath := f.String("log-path", "", "write the log to this `file`; SIGUSR1 opens it anew")
	showVersion := f.Bool("version", false, "say the version, and end")
	hotVersion := f.Bool("hot-restart-version", false, "say that there is no hot restart, and end")
	f.StringVar(&o.Type, "type", "", "sidecar or router (a gateway), in a mesh")
	flush := f.Uint("file-flush-interval-msec", 0, "access logs reach their files after so many `ms` (default 1000)")
	drain := f.Uint("drain-time-s", 0, "`seconds` that connections of a listener that goes have to end (default 600 with -c)")
	strategy := f.String("drain-strategy", "", "gradual or immediate: more and more connections of a listener that goes are told to end, or each with its next response (default gradual with -c, and only immediate without)")
	var warnings []string
	addEnvoyFlags(f, func(text string) { warnings = append(warnings, text) })
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		f.SetOutput(stdout)
		f.Usage()
		return err
	} else if err != nil {
		return ErrUsage{err}
	}
	switch {
	case *showVersion:
		_, err := fmt.Fprintf(stdout, "%s  version: malla/%s/%s\n", name, version.String(), runtime.Version())
		return err
	case *hotVersion:
		_, err := fmt.Fprintln(stdout, "disabled")
		return err
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
	if o.Immediate = *strategy == "immediate"; *strategy != "" && !o.Immediate && *strategy != "gradual" {
		return ErrUsage{fmt.Errorf("--drain-strategy: found %q, want gradual or immediate", *strategy)}
	}
	if !o.static() {
		if *strategy == "gradual" {
			return ErrUsage{fmt.Errorf("--drain-strategy: found gradual, want immediate: so connections of a mesh drain")}
		}
		if err := needBootstrap(f, o.Validate); err != nil {
			return ErrUsage{err}
		}
	}
	if *cpus && o.Concurrency == 0 {
		o.Concurrency = runtime.NumCPU()
	}
	if *level != "" {
		l, err := admin.ParseLevel(*level)
		if err != nil {
			return ErrUsage{fmt.Errorf("--log-level: %w", err)}
		}
		o.Level.Set(l)
	}
	if *logPath != "" {
		l := &logFile{path: *logPath}
		if err := l.Reopen(); err != nil {
			return fmt.Errorf("--log-path: %w", err)
		}
		defer l.Close()
		stderr, o.reopen = l, func() { _ = l.Reopen() }
	}
	o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.Level}))
	for _, w := range warnings {
		o.Log.Warn(w)
	}
	return Run(ctx, o)
}

// needBootstrap says which flag makes sense with a bootstrap only: in a mesh the
// environment says who the proxy is.
func needBootstrap(f *flag.FlagSet, validate bool) (err error) {
	if validate {
		return fmt.Errorf("--mode validate needs a bootstrap: -c FILE")
	}
	f.Visit(func(set *flag.Flag) {
		switch set.Name {
		case "service-node", "service-cluster", "service-zone", "admin-address-path":
			err = fmt.Errorf("--%s needs a bootstrap: -c FILE", set.Name)
		}
	})
	return err
}
