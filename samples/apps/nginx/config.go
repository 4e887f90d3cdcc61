package nginx

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A config is the servers of a configuration.
type config struct {
	servers []*server
	ignored []string // directives that have no effect here, each with its place
}

// A server is one server block.
type server struct {
	scope
	listen    []listen
	names     []string
	ret       *answer
	locations []*location
}

type listen struct {
	addr      string // "80" for every address, else host:port
	isDefault bool
}

// A location is one location block.
type location struct {
	scope
	match  string // "", "=", "^~", "~", "~*"
	uri    string
	regexp *regexp.Regexp
	pass   *upstream
	ret    *answer
}

// A scope is what inner blocks inherit from outer ones. A list is inherited as
// a whole, and only by a block that has none of its own.
type scope struct {
	root         string
	index        []string
	defaultType  string
	proxyVersion string // "1.0" or "1.1"
	setHeaders   []field
	addHeaders   []field
}

type field struct {
	name   string
	value  text
	always bool
}

// An answer is a return directive.
type answer struct {
	status int
	text   text
	given  bool // a text or an address is given
}

// An upstream is a proxy_pass directive.
type upstream struct {
	host, port string
	name       string // $proxy_host: as written
	uri        string // replaces the location's prefix, if hasURI
	hasURI     bool
	at         place
	addrs      []string // filled at start
}

// noEffect are directives that tune a process or its log. They change no
// answer; the program says once that it does not heed them.
var noEffect = map[string]bool{
	"user": true, "pid": true, "daemon": true, "master_process": true, "error_log": true, "access_log": true, "log_format": true,
	"worker_processes": true, "worker_rlimit_nofile": true, "worker_cpu_affinity": true, "worker_connections": true, "multi_accept": true, "use": true,
	"sendfile": true, "tcp_nopush": true, "tcp_nodelay": true, "keepalive_timeout": true, "server_tokens": true,
}

const known = "http, server, listen, server_name, location, proxy_pass, proxy_http_version, proxy_set_header, add_header, return, root, index, default_type, include"

// A loader builds a config and collects every mistake on the way.
type loader struct {
	disk    disk
	base    string // directory of relative includes
	config  *config
	errs    []error
	opened  int
	running map[string]bool // files being read: no include may come back to one
}

const maxFiles = 256

// load reads the configuration that begins in file.
func load(d disk, file string) (*config, error) {
	l := &loader{disk: d, base: path.Dir(file), config: &config{}, running: map[string]bool{}}
	text, err := d.conf(file)
	if err != nil {
		return nil, err
	}
	list, err := parse(file, text)
	if err != nil {
		return nil, err
	}
	l.running[file] = true
	l.each(list, l.main)
	if len(l.errs) == 0 && len(l.config.servers) == 0 {
		l.errs = append(l.errs, errors.New(file+": no server is configured"))
	}
	return l.config, errors.Join(l.errs...)
}

// each calls do for the directives of a block, includes resolved.
func (l *loader) each(list []directive, do func(directive)) {
	for _, d := range list {
		switch {
		case d.name == "include":
			l.include(d, do)
		case noEffect[d.name] && d.block == nil:
			l.config.ignored = append(l.config.ignored, d.at.String()+": "+d.name)
		default:
			do(d)
		}
	}
}

func (l *loader) include(d directive, do func(directive)) {
	if !l.words(d, 1, 1) {
		return
	}
	pattern := d.args[0]
	if !path.IsAbs(pattern) {
		pattern = path.Join(l.base, pattern)
	}
	found, err := l.disk.glob(pattern)
	if err != nil {
		l.fail(d, "%v", err)
	}
	for _, file := range found {
		if l.opened++; l.opened > maxFiles || l.running[file] {
			l.fail(d, "include %s: more than %d files, or a file that includes itself", file, maxFiles)
			return
		}
		text, err := l.disk.conf(file)
		if errors.Is(err, fs.ErrNotExist) && path.Base(file) == "mime.types" {
			continue // built in
		}
		if err != nil {
			l.fail(d, "%v", err)
			continue
		}
		list, err := parse(file, text)
		if err != nil {
			l.errs = append(l.errs, err)
			continue
		}
		l.running[file] = true
		l.each(list, do)
		delete(l.running, file)
	}
}

func (l *loader) fail(d directive, format string, args ...any) {
	l.errs = append(l.errs, d.at.errorf(format, args...))
}

// unknown refuses a directive by its name and line.
func (l *loader) unknown(d directive, where string) {
	if strings.HasPrefix(d.name, "ssl_") || d.name == "http2" {
		l.plainOnly(d, d.name)
		return
	}
	l.fail(d, "directive %q is not built in %s, want one of %s (the machine's own nginx knows it: malla up --image nginx=nginx)", d.name, where, known)
}

// plainOnly refuses what belongs to TLS.
func (l *loader) plainOnly(d directive, what string) {
	l.fail(d, "%s: the built-in nginx speaks plain HTTP/1 only; let the mesh do TLS (a Gateway ends it, sidecars encrypt what is between them), or take the machine's own nginx: malla up --image nginx=nginx", what)
}

func (l *loader) words(d directive, least, most int) bool {
	if n := len(d.args); n < least || n > most || d.block != nil {
		l.fail(d, "directive %q: found %d words, want %d to %d and \";\"", d.name, n, least, most)
		return false
	}
	return true
}

func (l *loader) main(d directive) {
	switch {
	case d.name == "events" && d.block != nil:
		l.each(d.block, func(d directive) { l.unknown(d, "in events") })
	case d.name == "http" && d.block != nil:
		l.http(d)
	default:
		l.unknown(d, "at the top")
	}
}

func (l *loader) http(block directive) {
	outer := scope{root: "/etc/nginx/html", index: []string{"index.html"}, defaultType: "text/plain", proxyVersion: "1.0"}
	var servers []directive
	var rest []directive
	l.each(block.block, func(d directive) { // what is inherited may stand after the servers
		if d.name == "server" && d.block != nil {
			servers = append(servers, d)
		} else {
			rest = append(rest, d)
		}
	})
	l.scope(&outer, rest, func(d directive) { l.unknown(d, "in http") })
	for _, d := range servers {
		l.server(d, outer)
	}
}

// scope applies the directives that are inherited and hands on the others.
func (l *loader) scope(s *scope, list []directive, other func(directive)) {
	var set, add []field
	for _, d := range list {
		switch d.name {
		case "root":
			if l.words(d, 1, 1) {
				s.root = strings.TrimSuffix(d.args[0], "/")
				if !path.IsAbs(d.args[0]) || strings.Contains(d.args[0], "$") {
					l.fail(d, "root: found %q, want an absolute path without variables", d.args[0])
				}
			}
		case "index":
			if l.words(d, 1, 16) {
				s.index = d.args
			}
		case "default_type":
			if l.words(d, 1, 1) {
				s.defaultType = d.args[0]
			}
		case "proxy_http_version":
			if l.words(d, 1, 1) {
				if s.proxyVersion = d.args[0]; s.proxyVersion != "1.0" && s.proxyVersion != "1.1" {
					l.fail(d, "proxy_http_version: found %q, want 1.0 or 1.1", d.args[0])
				}
			}
		case "proxy_set_header":
			if l.words(d, 2, 2) {
				set = append(set, field{name: d.args[0], value: l.text(d, d.args[1])})
			}
		case "add_header":
			if l.words(d, 2, 3) {
				f := field{name: d.args[0], value: l.text(d, d.args[1]), always: len(d.args) == 3}
				if f.always && d.args[2] != "always" {
					l.fail(d, "add_header %s: found %q, want \"always\" or nothing", d.args[0], d.args[2])
				}
				add = append(add, f)
			}
		default:
			other(d)
		}
	}
	if set != nil {
		s.setHeaders = set
	}
	if add != nil {
		s.addHeaders = add
	}
}

func (l *loader) server(block directive, outer scope) {
	s := &server{scope: outer}
	var inner, locations []directive
	l.each(block.block, func(d directive) { inner = append(inner, d) })
	l.scope(&s.scope, inner, func(d directive) {
		switch {
		case d.name == "listen":
			l.listen(d, s)
		case d.name == "server_name":
			for _, name := range d.args {
				if strings.HasPrefix(name, "~") || strings.Contains(strings.Trim(name, "*"), "*") {
					l.fail(d, "server_name: found %q, want a name or one with a star at either end", name)
				}
				s.names = append(s.names, strings.ToLower(name))
			}
		case d.name == "return":
			s.ret = l.answer(d)
		case d.name == "location" && d.block != nil:
			locations = append(locations, d)
		default:
			l.unknown(d, "in server")
		}
	})
	for _, d := range locations {
		l.location(d, s)
	}
	if s.listen == nil {
		s.listen = []listen{{addr: "80"}}
	}
	l.config.servers = append(l.config.servers, s)
}

func (l *loader) listen(d directive, s *server) {
	for _, p := range d.args {
		if p == "ssl" || p == "http2" || p == "quic" {
			l.plainOnly(d, "listen: parameter "+strconv.Quote(p))
			return
		}
	}
	if !l.words(d, 1, 2) {
		return
	}
	var li listen
	if len(d.args) == 2 {
		if d.args[1] != "default_server" {
			l.fail(d, "listen: parameter %q is not built in, want default_server or none", d.args[1])
			return
		}
		li.isDefault = true
	}
	host, port, err := net.SplitHostPort(d.args[0])
	if err != nil {
		host, port = "", d.args[0]
		if _, err := strconv.Atoi(port); err != nil {
			host, port = strings.Trim(d.args[0], "[]"), "80"
		}
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		l.fail(d, "listen: found %q, want a port or an address with one", d.args[0])
		return
	}
	switch host {
	case "", "*", "0.0.0.0", "::":
		// One socket takes v4 and v6. nginx itself would need two, and a Service
		// of both families would reach it on one only.
		li.addr = port
	case "localhost":
		li.addr = net.JoinHostPort("127.0.0.1", port)
	default:
		if net.ParseIP(host) == nil {
			l.fail(d, "listen: found %q, want a port or an address with one", d.args[0])
			return
		}
		li.addr = net.JoinHostPort(host, port)
	}
	if !slices.ContainsFunc(s.listen, func(o listen) bool { return o.addr == li.addr }) {
		s.listen = append(s.listen, li)
	}
}

func (l *loader) location(block directive, s *server) {
	loc := &location{scope: s.scope}
	switch n := len(block.args); {
	case n == 2 && slices.Contains([]string{"=", "^~", "~", "~*"}, block.args[0]):
		loc.match, loc.uri = block.args[0], block.args[1]
	case n == 1 && strings.HasPrefix(block.args[0], "/"):
		loc.uri = block.args[0]
	default:
		l.fail(block, "location: found %q, want a path, or \"=\", \"^~\", \"~\" or \"~*\" and one", block.args)
		return
	}
	if strings.HasPrefix(loc.match, "~") {
		expr := loc.uri
		if loc.match == "~*" {
			expr = "(?i)" + expr
		}
		var err error
		if loc.regexp, err = regexp.Compile(expr); err != nil {
			l.fail(block, "location: %v", err)
			return
		}
	}
	var inner []directive
	l.each(block.block, func(d directive) { inner = append(inner, d) })
	l.scope(&loc.scope, inner, func(d directive) {
		switch d.name {
		case "return":
			loc.ret = l.answer(d)
		case "proxy_pass":
			loc.pass = l.pass(d, loc)
		default:
			l.unknown(d, "in location")
		}
	})
	if slices.ContainsFunc(s.locations, func(o *location) bool { return o.match == loc.match && o.uri == loc.uri }) {
		l.fail(block, "location %q is there twice", loc.uri)
	}
	s.locations = append(s.locations, loc)
}

func (l *loader) pass(d directive, loc *location) *upstream {
	if !l.words(d, 1, 1) {
		return nil
	}
	target := d.args[0]
	u, err := url.Parse(target)
	switch {
	case strings.Contains(target, "$"):
		l.fail(d, "proxy_pass: found variables in %q, want a name that is known at start", target)
	case err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "":
		l.fail(d, "proxy_pass: found %q, want http://HOST[:PORT][PATH]", target)
	case loc.regexp != nil && u.Path != "":
		l.fail(d, "proxy_pass: found a path in %q, which a location with a regular expression cannot have", target)
	default:
		port := u.Port()
		if port == "" {
			port = "80"
		}
		return &upstream{host: u.Hostname(), port: port, name: u.Host, uri: u.EscapedPath(), hasURI: u.Path != "", at: d.at}
	}
	return nil
}

func (l *loader) answer(d directive) *answer {
	if !l.words(d, 1, 2) {
		return nil
	}
	status, err := strconv.Atoi(d.args[0])
	switch {
	case err != nil && len(d.args) == 1 && (strings.HasPrefix(d.args[0], "http://") || strings.HasPrefix(d.args[0], "https://") || strings.HasPrefix(d.args[0], "$scheme")):
		return &answer{status: 302, text: l.text(d, d.args[0]), given: true}
	case err != nil || status < 200 || status > 999:
		l.fail(d, "return: found %q, want a status from 200 on, or an address", d.args[0])
		return nil
	case len(d.args) == 2:
		return &answer{status: status, text: l.text(d, d.args[1]), given: true}
	}
	return &answer{status: status}
}

func (l *loader) text(d directive, s string) text {
	t, err := parseText(s)
	if err != nil {
		l.fail(d, "%s: %v", d.name, err)
	}
	return t
}
