// Package nginx is a small nginx for the sample image of that name: it reads the
// configuration that is mounted into the pod and behaves as nginx does.
//
// It knows servers, locations, static files, return and proxying by HTTP/1.0 or
// 1.1; the directives are listed in one place, config.go. Everything else is
// refused by its name and line, so that nobody tests a mesh with an nginx that
// silently does something else: the machine's own nginx can take its place.
//
// Two of nginx's habits matter to a mesh and are kept. It looks up the names in
// proxy_pass once, when it starts, and stops if one is unknown. And it speaks
// HTTP/1.0 to them unless proxy_http_version says 1.1, which a mesh answers with
// 426. Unlike nginx it keeps trying a name for a few seconds first, and "listen
// 80" means v4 and v6.
package nginx

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mallamesh/malla/samples/apps/internal/serve"
)

// Main runs nginx. Of nginx's own arguments -c FILE and -g "daemon off;" are
// known. MALLA_MOUNTS lists the paths that the container mounts, separated by
// colons; without it they are read from /proc.
func Main(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	file, err := arguments(args)
	if err != nil {
		return err
	}
	d := thisDisk()
	if list := env("MALLA_MOUNTS"); list != "" { // the runtime knows the manifest's mounts better than the kernel does
		d.mounts = strings.Split(list, ":")
	}
	if file != mainFile {
		d.mounts = append(d.mounts, path.Dir(file)) // a file that is named is meant
	}
	c, err := load(d, file)
	if err != nil {
		return err
	}
	if len(c.ignored) > 0 {
		fmt.Fprintf(stderr, "nginx: without effect here: %s\n", strings.Join(c.ignored, ", "))
	}
	if err := c.resolve(ctx, net.DefaultResolver.LookupHost); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, addr := range c.addrs() {
		l, err := listenOn(addr)
		if err != nil {
			return err
		}
		h := &handler{config: c, disk: d, addr: addr, log: stderr}
		group.Go(func() error { return serve.HTTPOn(ctx, l, h) })
	}
	return group.Wait()
}

func arguments(args []string) (file string, err error) {
	file = mainFile
	if len(args) > 0 && strings.HasPrefix(path.Base(args[0]), "nginx") {
		args = args[1:]
	}
	for len(args) > 0 {
		switch {
		case args[0] == "-g" && len(args) > 1 && strings.Trim(args[1], "; ") == "daemon off":
		case args[0] == "-c" && len(args) > 1 && path.IsAbs(args[1]):
			file = args[1]
		default:
			return "", fmt.Errorf("arguments %q: not built in, want -c FILE or -g \"daemon off;\"", args)
		}
		args = args[2:]
	}
	return file, nil
}

// addrs lists the addresses of all servers, each once.
func (c *config) addrs() []string {
	var list []string
	seen := map[string]bool{}
	for _, s := range c.servers {
		for _, l := range s.listen {
			if !seen[l.addr] {
				seen[l.addr] = true
				list = append(list, l.addr)
			}
		}
	}
	return list
}

func listenOn(addr string) (net.Listener, error) {
	if !strings.Contains(addr, ":") {
		return serve.Listen(addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// A handler answers the requests of one listening address.
type handler struct {
	config *config
	disk   disk
	addr   string
	log    io.Writer
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "nginx")
	x := &exchange{r: r, path: clean(r.URL.Path), port: h.addr}
	if p := portOf(h.addr); p != "" {
		x.port = p
	}
	x.server = h.server(hostname(r.Host))
	if x.server.ret != nil {
		give(w, x, x.server.scope, x.server.ret)
		return
	}
	x.loc = x.server.find(x.path)
	switch {
	case x.loc == nil && x.server.slash(x.path):
		redirect(w, x, x.server.scope, x.path+"/")
	case x.loc == nil:
		h.file(w, x, x.server.scope)
	case x.loc.ret != nil:
		give(w, x, x.loc.scope, x.loc.ret)
	case x.loc.pass != nil:
		h.proxy(w, x)
	default:
		h.file(w, x, x.loc.scope)
	}
}

// clean resolves dots and double slashes and keeps a slash at the end.
func clean(p string) string {
	c := path.Clean("/" + p)
	if c != "/" && (strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..")) {
		c += "/"
	}
	return c
}

// server picks the server block by the name that was asked for: an exact name,
// then the longest with a star before, then with a star behind, then the
// address's default.
func (h *handler) server(host string) *server {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	var fallback, best *server
	rank, length := 0, 0
	for _, s := range h.config.servers {
		for _, l := range s.listen {
			if l.addr != h.addr {
				continue
			}
			if fallback == nil || l.isDefault {
				fallback = s
			}
			for _, name := range s.names {
				if r := nameRank(name, host); r > rank || r == rank && r > 0 && r < 3 && len(name) > length {
					best, rank, length = s, r, len(name)
				}
			}
		}
	}
	if best != nil {
		return best
	}
	return fallback
}

// nameRank is 3 for the name itself, 2 and 1 for a star before and behind it, 0
// for another name.
func nameRank(name, host string) int {
	switch {
	case name == host:
		return 3
	case strings.HasPrefix(name, "*.") && strings.HasSuffix(host, name[1:]):
		return 2
	case strings.HasPrefix(name, ".") && (strings.HasSuffix(host, name) || host == name[1:]):
		return 2
	case strings.HasSuffix(name, ".*") && strings.HasPrefix(host, name[:len(name)-1]):
		return 1
	}
	return 0
}

// find picks the location as nginx's documentation says: "=" first, then the
// longest prefix, which "^~" makes final, else the first regular expression that
// matches, else that prefix.
func (s *server) find(p string) *location {
	var prefix *location
	for _, l := range s.locations {
		switch l.match {
		case "=":
			if l.uri == p {
				return l
			}
		case "", "^~":
			if strings.HasPrefix(p, l.uri) && (prefix == nil || len(l.uri) > len(prefix.uri)) {
				prefix = l
			}
		}
	}
	if prefix != nil && prefix.match == "^~" {
		return prefix
	}
	for _, l := range s.locations {
		if l.regexp != nil && l.regexp.MatchString(p) {
			return l
		}
	}
	return prefix
}

// slash reports whether p lacks only the slash of a proxied location "/p/".
func (s *server) slash(p string) bool {
	for _, l := range s.locations {
		if l.pass != nil && l.match != "~" && l.match != "~*" && l.uri == p+"/" {
			return true
		}
	}
	return false
}
