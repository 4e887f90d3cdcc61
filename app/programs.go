package app

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/kballard/go-shellquote"

	"github.com/mallamesh/malla/app/proxy"
	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/pods"
	"github.com/mallamesh/malla/local/sandbox"
	"github.com/mallamesh/malla/samples/apps"
)

// An imageRule says what runs for images that match a pattern.
type imageRule struct {
	Pattern string
	Argv    []string
}

// parseImages reads the values of --image: PATTERN=COMMAND, or the name of a file
// with one such rule on each line (# begins a comment).
func parseImages(values []string) ([]imageRule, error) {
	var rules []imageRule
	for _, v := range values {
		if strings.Contains(v, "=") {
			r, err := parseImage(v)
			if err != nil {
				return nil, fmt.Errorf("--image %q: %w", v, err)
			}
			rules = append(rules, r)
			continue
		}
		more, err := imageFile(v)
		if err != nil {
			return nil, fmt.Errorf("--image %q: %w (want PATTERN=COMMAND, or a file with such lines)", v, err)
		}
		rules = append(rules, more...)
	}
	return rules, nil
}

func imageFile(path string) ([]imageRule, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var rules []imageRule
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseImage(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		rules = append(rules, r)
	}
	return rules, lines.Err()
}

func parseImage(s string) (imageRule, error) {
	pattern, command, ok := strings.Cut(s, "=")
	if !ok || pattern == "" {
		return imageRule{}, fmt.Errorf("found %q, want PATTERN=COMMAND", s)
	}
	argv, err := shellquote.Split(command)
	if err != nil {
		return imageRule{}, fmt.Errorf("command %q: %w", command, err)
	}
	if len(argv) == 0 {
		return imageRule{}, fmt.Errorf("no command after %q", pattern+"=")
	}
	return imageRule{pattern, argv}, nil
}

// programs is the table of what images stand for on this machine.
type programs struct {
	rules []imageRule // the user's, asked first
	cwd   string      // where `up` was typed; commands of rules run there
	shims string      // directory of small scripts, for programs that the machine lacks

	etcMu sync.Mutex
	etc   string // what stands at nginx's /etc/nginx, once it is made; guarded by etcMu
}

// program returns what a container runs.
func (t *programs) program(image string, command, args []string) (pods.Program, error) {
	p, err := t.find(image, command, args)
	if err == nil && filepath.Base(p.Argv[0]) == "nginx" {
		var dir string
		dir, err = t.nginxEtc()
		p.Mounts = append(p.Mounts, sandbox.Mount{Path: "/etc/nginx", Source: dir, ReadOnly: true})
	}
	return p, err
}

// find looks a program up. A manifest's command that this machine
// has runs with any image, because it takes the place of the image's own; else a
// rule of the user says what the image's own is, else it is a built-in program.
func (t *programs) find(image string, command, args []string) (pods.Program, error) {
	for _, r := range t.rules {
		if !apps.Match(r.Pattern, image) {
			continue
		}
		if len(command) > 0 {
			if path, err := exec.LookPath(command[0]); err == nil {
				p := pods.Program{Argv: append(append([]string{path}, command[1:]...), args...)}
				t.show(&p)
				return p, nil
			}
		}
		return t.user(r, args)
	}
	app, known := apps.ForImage(image)
	p := pods.Program{}
	if known {
		mounts, err := t.commands(app.Name)
		if err != nil {
			return p, err
		}
		p.Mounts = mounts
	}
	if len(command) > 0 {
		path, err := exec.LookPath(command[0])
		switch {
		case err == nil:
			p.Argv = append(append([]string{path}, command[1:]...), args...)
			t.showTool(&p)
			return p, nil
		case known:
			p.Argv = append(append([]string{sandbox.Self, "sample", app.Name}, command[1:]...), args...)
			return p, nil
		}
		return p, fmt.Errorf("image %q: its command %q is not on this machine; add --image '%s=COMMAND'", image, command[0], image)
	}
	switch {
	case known:
		p.Argv = append([]string{sandbox.Self, "sample", app.Name}, args...)
		return p, nil
	case strings.HasPrefix(image, "malla/"):
		p.Argv = append([]string{sandbox.Self}, args...)
		return p, showEnvoy(&p, args)
	case image == "auto":
		return p, fmt.Errorf("image \"auto\" stands for the proxy, but the pod is not injected; label it sidecar.istio.io/inject: \"true\"")
	}
	return p, fmt.Errorf("nothing on this machine stands for image %q; add --image '%s=COMMAND'", image, image)
}

// showEnvoy makes the Envoy that a sidecar runs readable, and says where it is.
func showEnvoy(p *pods.Program, args []string) error {
	if n := len(inject.EnvoyRole); len(args) < n || !slices.Equal(args[:n], inject.EnvoyRole) {
		return nil
	}
	path, err := proxy.FindEnvoy(os.Getenv)
	if err != nil {
		return fmt.Errorf("%s: envoy: %w", inject.ProxyKey, err)
	}
	p.Env = append(p.Env, proxy.EnvEnvoy+"="+path)
	if !systemDir(filepath.Dir(path)) {
		readable(p, path)
	}
	return nil
}

// user runs the command of a rule where `up` was typed, with that directory to be read.
func (t *programs) user(r imageRule, args []string) (pods.Program, error) {
	path := r.Argv[0]
	if strings.Contains(path, "/") && !filepath.IsAbs(path) {
		path = filepath.Join(t.cwd, path)
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return pods.Program{}, fmt.Errorf("--image %s: command %q is not on this machine", r.Pattern, r.Argv[0])
	}
	p := pods.Program{Argv: append(append([]string{found}, r.Argv[1:]...), asImage(r.Argv, args)...), Dir: t.cwd}
	t.show(&p)
	return p, nil
}

// asImage returns the arguments of a rule's command. If the rule is only a program's
// name, they are as an image would have them: some manifests repeat the name, since the
// image starts by a script, and nginx, which goes to the background by itself (the
// container would be over), stays in front.
func asImage(argv, args []string) []string {
	if len(argv) > 1 {
		return args
	}
	name := filepath.Base(argv[0])
	if len(args) > 0 && args[0] == name {
		args = args[1:]
	}
	if name == "nginx" && len(args) == 0 {
		return []string{"-g", "daemon off;"}
	}
	return args
}

// show makes what a rule's command needs readable: the directory where `up` was
// typed, and the tool's own tree if it is not the system's (a Python of pyenv, a
// Node of nvm).
func (t *programs) show(p *pods.Program) {
	if holds(t.cwd, home()) {
		// Somebody's whole home is theirs (keys, other programs' tokens): there it is
		// only what the command names.
		for _, word := range p.Argv {
			if path := t.named(word); path != "" {
				readable(p, path)
			}
		}
	} else {
		readable(p, t.cwd)
	}
	t.showTool(p)
}

// showTool makes the tree of a command's program readable.
func (t *programs) showTool(p *pods.Program) {
	if bin := filepath.Dir(p.Argv[0]); bin != t.cwd && !systemDir(bin) {
		for _, dir := range toolPaths(p.Argv[0], home()) {
			readable(p, dir)
		}
	}
}

func readable(p *pods.Program, path string) {
	if path != "/" && !slices.ContainsFunc(p.Mounts, func(m sandbox.Mount) bool { return m.Path == path }) {
		p.Mounts = append(p.Mounts, sandbox.Mount{Path: path, Source: path, ReadOnly: true})
	}
}

func home() string {
	dir, err := os.UserHomeDir()
	if err != nil {
		return "/"
	}
	return dir
}

// holds reports whether dir is inner or a directory around it.
func holds(dir, inner string) bool {
	rel, err := filepath.Rel(dir, inner)
	return err == nil && filepath.IsLocal(rel)
}

// named returns the file below the directory where `up` was typed that a word of a
// command names, "" if none.
func (t *programs) named(word string) string {
	path := word
	if !filepath.IsAbs(path) {
		path = filepath.Join(t.cwd, path)
	}
	if path = filepath.Clean(path); path == t.cwd || !holds(t.cwd, path) || systemDir(path) {
		return ""
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// toolPaths are what a tool that is not the system's consists of. In the user's
// home it is the tree above, ~/.pyenv of ~/.pyenv/shims; but what several tools
// share, ~/.local of ~/.local/bin, is also where others keep secrets.
func toolPaths(command, home string) []string {
	bin := filepath.Dir(command)
	tree := filepath.Dir(bin)
	switch {
	case holds(bin, home):
		return []string{command}
	case home == "/" || !holds(home, bin) || tree == home:
		return []string{bin}
	case filepath.Base(bin) == "bin" && filepath.Dir(tree) == home:
		dirs := []string{bin}
		if lib := filepath.Join(tree, "lib"); isDir(lib) {
			dirs = append(dirs, lib)
		}
		return dirs
	}
	return []string{tree}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// systemDir reports whether every container sees the directory anyway.
func systemDir(dir string) bool {
	for _, d := range []string{"/usr", "/bin", "/sbin", "/opt"} {
		if dir == d || strings.HasPrefix(dir, d+"/") {
			return true
		}
	}
	return false
}

// commandsOf lists what people type in a sample's container.
var commandsOf = map[string][]string{"curl": {"curl"}, "load": {"load", "fortio"}, "fortio": {"load", "fortio"}}

// commands gives a container the built-in form of commands that the machine lacks.
func (t *programs) commands(app string) ([]sandbox.Mount, error) {
	var mounts []sandbox.Mount
	for _, name := range commandsOf[app] {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		path := filepath.Join(t.shims, name)
		if _, err := os.Stat(path); err != nil {
			if err := os.MkdirAll(t.shims, 0o755); err != nil {
				return nil, err
			}
			if err := os.WriteFile(path, []byte("#!/bin/sh\nexec "+sandbox.Self+" sample "+name+" \"$@\"\n"), 0o755); err != nil {
				return nil, err
			}
		}
		mounts = append(mounts, sandbox.Mount{Path: "/usr/local/bin/" + name, Source: path, ReadOnly: true})
	}
	return mounts, nil
}
