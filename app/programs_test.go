package app

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mallamesh/malla/local/pods"
)

func TestWhatAnImageRuns(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rules, err := parseImages([]string{"example.com/shop:*=./shop --port '80 80'", "nginx*=sh -c true"})
	if err != nil {
		t.Fatal(err)
	}
	table := &programs{rules: rules, cwd: dir, shims: filepath.Join(dir, "shims")}
	for _, test := range []struct {
		name          string
		image         string
		command, args []string
		want          string // of the argv, joined
	}{
		{"a rule's command, with the manifest's args behind", "example.com/shop:1", nil, []string{"-v"}, dir + "/shop|--port|80 80|-v"},
		{"a rule beats a built-in program", "nginx", nil, nil, "/sh|-c|true"},
		{"a command that the machine has takes the place of a rule's", "example.com/shop:1", []string{"sh", "-c"}, []string{"migrate"}, "/sh|-c|migrate"},
		{"one that it lacks does not", "example.com/shop:1", []string{"is-not-here"}, nil, dir + "/shop|--port|80 80"},
		{"a sample image is a built-in program", "docker.io/istio/examples-bookinfo-details-v1:1.20.3", nil, nil, "/malla|sample|details"},
		{"a command that the machine has, with any image", "nobody/knows:1", []string{"sh"}, []string{"-c", "x"}, "/sh|-c|x"},
		{"a command that it lacks goes to the sample", "docker.io/kong/httpbin", []string{"gunicorn-is-not-here"}, []string{"x"}, "/malla|sample|httpbin|x"},
		{"our own images are this program", "malla/pilot", nil, []string{"control", "run"}, "/malla|control|run"},
	} {
		p, err := table.program(test.image, test.command, test.args)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := strings.Join(p.Argv, "|"); !strings.HasSuffix(got, test.want) {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	for image, want := range map[string]string{"nobody/knows:1": "--image 'nobody/knows:1=COMMAND'", "auto": "not injected"} {
		if _, err := table.program(image, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", image, err, want)
		}
	}
}

func TestImageRulesThatAreWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "images")
	if err := os.WriteFile(file, []byte("# ours\na=b c\n\nwrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"a=":          "no command",
		"=b":          "want PATTERN=COMMAND",
		"a='b":        "command",
		"/no/such/it": "no such file",
		file:          "images:4",
	} {
		if _, err := parseImages([]string{value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", value, err, want)
		}
	}
}

// What is shown of somebody's home is what the command names, and the tool that
// runs it: never all of it, where keys and tokens are.
func TestWhatAProgramIsShownOfAHome(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, f := range []string{"serve.py", "shop/serve.py", ".local/bin/tool", ".local/lib/tool/x", ".pyenv/shims/python", "go/bin/tool", "tool", ".ssh/id", ".nvm/v1/bin/node"} {
		executable(t, filepath.Join(home, f))
	}
	for _, test := range []struct{ cwd, command, want string }{
		{"shop", "/bin/sh serve.py", "shop"},
		{"", "/bin/sh serve.py", "serve.py"},
		{"", "/bin/sh shop/serve.py /etc/passwd .", "shop/serve.py"},
		{"..", "/bin/sh -c true", ""},
		{"shop", ".local/bin/tool", "shop .local/bin .local/lib"},
		{"shop", "go/bin/tool", "shop go/bin"},
		{"shop", ".pyenv/shims/python", "shop .pyenv"},
		{"shop", ".nvm/v1/bin/node", "shop .nvm/v1"},
		{"shop", "tool", "shop tool"},
		{"", "tool", "tool"},
	} {
		argv := strings.Fields(test.command)
		if !filepath.IsAbs(argv[0]) {
			argv[0] = filepath.Join(home, argv[0])
		}
		p := pods.Program{Argv: argv}
		(&programs{cwd: filepath.Join(home, test.cwd)}).show(&p)
		var got []string
		for _, m := range p.Mounts {
			rel, err := filepath.Rel(home, m.Source)
			if err != nil || !m.ReadOnly || m.Path != m.Source {
				t.Errorf("%s: mount %+v", test.command, m)
			}
			got = append(got, rel)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%q in ~/%s shows %v, want %s", test.command, test.cwd, got, test.want)
		}
	}
}

func executable(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestARulesProgramGetsTheArgumentsOfItsImage(t *testing.T) {
	for _, test := range []struct{ rule, args, want string }{
		{"nginx", "", "-g|daemon off;"},
		{"/usr/sbin/nginx", "nginx|-g|daemon off;", "-g|daemon off;"},
		{"nginx", "nginx-debug|-g|daemon off;", "nginx-debug|-g|daemon off;"},
		{"nginx", "-c|/etc/mine.conf", "-c|/etc/mine.conf"},
		{"nginx|-e|stderr", "", ""},
		{"./shop", "shop|--port|80", "--port|80"},
		{"./shop", "", ""},
	} {
		split := func(s string) []string {
			return strings.FieldsFunc(s, func(r rune) bool { return r == '|' })
		}
		if got := strings.Join(asImage(split(test.rule), split(test.args)), "|"); got != test.want {
			t.Errorf("rule %s, args %s: %s, want %s", test.rule, test.args, got, test.want)
		}
	}
}

// The machine's own nginx runs with the manifest's configuration and no other.
func TestTheMachinesNginxSeesTheImagesFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nginx"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	table := &programs{rules: []imageRule{{"nginx", []string{"nginx"}}}, cwd: t.TempDir(), shims: filepath.Join(dir, "shims")}
	for name, command := range map[string][]string{"nginx:1.27": nil, "nobody/knows:1": {"nginx", "-g", "daemon off;"}} {
		p, err := table.program(name, command, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(p.Argv[1:], "|"); got != "-g|daemon off;" {
			t.Errorf("%s: arguments %s", name, got)
		}
		etc := ""
		for _, m := range p.Mounts {
			if m.Path == "/etc/nginx" {
				etc = m.Source
			}
		}
		for file, want := range map[string]string{"nginx.conf": "include /etc/nginx/conf.d/*.conf;", "conf.d/default.conf": "listen 80;", "mime.types": "text/html"} {
			text, err := os.ReadFile(filepath.Join(etc, file))
			if err != nil || !strings.Contains(string(text), want) || strings.Contains(string(text), "sites-enabled") {
				t.Errorf("%s: %s: %v\n%s", name, file, err, text)
			}
		}
	}
}

// Of the machine's /etc/nginx a container sees lists of types and parameters: no server,
// and nothing secret.
func TestTheMachinesNginxKeepsItsSecrets(t *testing.T) {
	machine := t.TempDir()
	for name, text := range map[string]string{"mime.types": "types {}", "fastcgi_params": "x y;", "nginx.conf": "its own", ".htpasswd": "joe:secret", "server.key": "secret"} {
		if err := os.WriteFile(filepath.Join(machine, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := nginxFiles(machine)
	names := slices.Sorted(maps.Keys(files))
	if want := []string{"conf.d/default.conf", "fastcgi_params", "mime.types", "nginx.conf"}; !slices.Equal(names, want) || string(files["nginx.conf"]) != nginxMain {
		t.Errorf("files %v, want %v", names, want)
	}
}
