package main

import (
	"embed"
	"os"
	"path/filepath"
	"text/template"

	"github.com/mallamesh/malla/test/script/mesh"
)

// templates are the configurations of the contestants and of the backend.
//
//go:embed testdata
var files embed.FS

var templates = template.Must(template.ParseFS(files, "testdata/*"))

// A config is what the templates are filled with.
type config struct {
	Dir, Certificates        string
	Modules                  string
	Port                     int // of the backend
	Links                    []configLink
	Hosts, Prefixes, Workers int
	Regexes                  int
	IstioMetrics             bool
	Profile                  string // empty: none
	Admin                    int    // where it is begun and ended
}

type configLink struct {
	Name     string
	Port, To int
	In, Out  configEnd
	// See link.
	Cluster, Filter, Gate, Limits string
}

// A configEnd knows where its certificates are.
type configEnd struct {
	end
	Dir string
}

// TCP reports whether bytes are proxied, not requests.
func (c config) TCP() bool { return c.Links[0].In.end == tcp }

// Curve is the key exchange that is asked for, or empty.
func (c config) Curve() string { return c.Links[0].In.Curve }

// configure gives every link a free port and joins it to the one behind it.
func (b *bench) configure(way []link, backend int, dir, certificates string) config {
	c := config{Dir: dir, Certificates: certificates, Workers: 1, Modules: nginxModules}
	ports := map[string]int{"": backend}
	for _, l := range way {
		ports[l.name] = mesh.FreePort(b)
	}
	for _, l := range way {
		c.Links = append(c.Links, configLink{
			Name: l.name, Port: ports[l.name], To: ports[l.next],
			In: configEnd{l.in, certificates}, Out: configEnd{l.out, certificates},
			Cluster: l.cluster, Filter: l.filter, Gate: l.gate, Limits: l.limits,
		})
	}
	return c
}

// fill writes a configuration into its directory and returns its path.
func (b *bench) fill(name string, c config) string {
	path := filepath.Join(c.Dir, name)
	f, err := os.Create(path)
	if err == nil {
		err = templates.ExecuteTemplate(f, name, c)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		b.Fatalf("write %s: %v", name, err)
	}
	return path
}
