//go:build linux

package script_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// In the documents, indented blocks are what a person types, or else what is seen
// after the last command of the block before.
type docStep struct {
	command string
	want    []string // lines of the output, as shapes
}

var (
	typed  = regexp.MustCompile(`^(malla|bin/malla|go run|curl|make)( |$)`)
	remark = regexp.MustCompile(`\s+# .*$`)
)

// docSteps reads the commands of a document. Blocks of something else before the
// first command are pictures.
func docSteps(text string) []docStep {
	var steps []docStep
	var block []string
	end := func() {
		switch {
		case len(block) == 0:
		case typed.MatchString(block[0]):
			for _, l := range block {
				if l = remark.ReplaceAllString(l, ""); l != "" {
					steps = append(steps, docStep{command: l})
				}
			}
		case len(steps) > 0:
			last := &steps[len(steps)-1]
			last.want = append(last.want, block...)
		}
		block = nil
	}
	for _, l := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(l, "    "):
			if n := len(block); n > 0 && block[n-1] == "" && typed.MatchString(l[4:]) {
				end()
			}
			block = append(block, l[4:])
		case l == "" && len(block) > 0 && !typed.MatchString(block[0]):
			block = append(block, "") // an output may have empty lines
		default:
			end()
		}
	}
	end()
	return steps
}

// shape is a line without what changes from run to run.
func shape(line string) string {
	for _, r := range []struct{ of, is string }{
		{`go run \./cmd/malla`, "malla"},
		{`-[a-z0-9]{6,10}-[a-z0-9]{5}\b`, "-POD"},
		{`\b(hello|reviews|details)-v\d\b`, "$1-vN"},
		{`\d+\.\d+ s\b`, "N s"},
		{`\[\d{4}-\d\d-\d\dT[0-9:.]+Z\]`, "[TIME]"},
		{`127\.0\.0\.1:\d+`, "127.0.0.1:PORT"},
		{`Version: \d\.0\.0`, "Version: N"},
		{`\s+`, " "},
	} {
		line = regexp.MustCompile(r.of).ReplaceAllString(line, r.is)
	}
	return strings.TrimSpace(line)
}

// lacks returns the first of the wanted lines that is not in an output.
func lacks(output string, want []string) (missing string, lacking bool) {
	var lines []string
	for _, l := range strings.Split(output, "\n") {
		lines = append(lines, shape(l))
	}
	for _, w := range want {
		if w = shape(w); w != "" && !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, w) }) {
			return w, true
		}
	}
	return "", false
}

// A reader types the commands of documents at a machine where malla is installed.
type reader struct {
	mesh *mesh.Mesh
	dir  string // where the commands are typed
	env  []string
}

func newReader(t *testing.T, dir string) *reader {
	t.Helper()
	m := mesh.New(t, mesh.Options{Name: "default"})
	programs := t.TempDir()
	// A test's ports are its own, and it does not sit and watch.
	write(t, filepath.Join(programs, "malla"), fmt.Sprintf("#!/bin/sh\ncase $1 in up) shift; set -- up --detach --publish %d:80 \"$@\" ;; esac\nexec %s \"$@\"\n", m.Port(80), m.Bin))
	if _, err := exec.LookPath("curl"); err != nil {
		write(t, filepath.Join(programs, "curl"), "#!/bin/sh\nexec "+m.Bin+" sample curl \"$@\"\n")
	}
	files, _ := filepath.Glob(filepath.Join(programs, "*"))
	for _, f := range files {
		if err := os.Chmod(f, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &reader{mesh: m, dir: dir, env: append(m.Env(), "PATH="+programs+":"+os.Getenv("PATH"))}
}

// types runs one command and returns what is seen.
func (r *reader) types(command string) (string, error) {
	command = strings.NewReplacer("go run ./cmd/malla", "malla", "bin/malla", "malla", "127.0.0.1:8080", fmt.Sprintf("127.0.0.1:%d", r.mesh.Port(80))).Replace(command)
	cmd := exec.Command("/bin/sh", "-ec", command)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// follow types all commands of a document.
func (r *reader) follow(t *testing.T, steps []docStep) {
	t.Helper()
	for _, s := range steps {
		if strings.HasPrefix(s.command, "make") {
			continue // TestDocumentsNameWhatExists has seen to it
		}
		var out string
		err := mesh.Within(5*time.Second, func() (err error) {
			out, err = r.types(s.command)
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			if line, lacking := lacks(out, s.want); lacking {
				return fmt.Errorf("%q is not in its output:\n%s", line, out)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", s.command, err)
			if strings.Contains(s.command, " up ") {
				return
			}
		}
	}
}

// Every command in the documents works, and shows what they say.
func TestDocumentsHoldWhatTheySay(t *testing.T) {
	linux(t)
	root := filepath.Dir(mesh.Samples(t))
	seen := map[string]bool{}
	for _, file := range []string{"README.md", "samples/bookinfo/README.md", "samples/hello/README.md", "samples/httpbin/README.md", "samples/soap/README.md"} {
		t.Run(file, func(t *testing.T) {
			steps := docSteps(document(t, root, file))
			if len(steps) < 3 {
				t.Fatalf("%d commands found", len(steps))
			}
			for _, s := range steps {
				seen[s.command] = true
			}
			newReader(t, root).follow(t, steps)
		})
	}
	t.Run("samples/README.md", func(t *testing.T) {
		rows := regexp.MustCompile("(?m)^\\|.*\\| `(malla up [^`]*)` \\|$").FindAllStringSubmatch(document(t, root, "samples/README.md"), -1)
		if len(rows) < 6 {
			t.Fatalf("%d rows with a command", len(rows))
		}
		for _, row := range rows {
			if !seen[row[1]] {
				newReader(t, root).follow(t, []docStep{{command: row[1]}, {command: "malla stop"}})
			}
		}
	})
	t.Run("docs/up.md", func(t *testing.T) {
		dir := dirOf(t, map[string]string{"manifests/web.yaml": deployment("web", httpbinImage), "run-my-tests": "#!/bin/sh\nmalla get pods | grep -q 'web-.*2/2'\n"})
		if err := os.Chmod(filepath.Join(dir, "run-my-tests"), 0o755); err != nil {
			t.Fatal(err)
		}
		newReader(t, dir).follow(t, docSteps(document(t, root, "docs/up.md")))
	})
}

func document(t *testing.T, root, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Verbs, flags and make targets that the documents name exist.
func TestDocumentsNameWhatExists(t *testing.T) {
	root := filepath.Dir(mesh.Samples(t))
	m := mesh.New(t, mesh.Options{Name: "absent"})
	makefile := document(t, root, "Makefile")
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "samples/*.md", "samples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	help := map[string]string{}
	for _, file := range files {
		name, _ := filepath.Rel(root, file)
		text := document(t, root, name)
		commands := regexp.MustCompile("`(malla [^`]*)`").FindAllStringSubmatch(text, -1)
		for _, s := range docSteps(text) {
			if target, ok := strings.CutPrefix(s.command, "make "); ok && !strings.Contains(makefile, "\n"+target+":") {
				t.Errorf("%s: make has no target %s", name, target)
			}
			commands = append(commands, []string{"", strings.TrimPrefix(s.command, "bin/")})
		}
		for _, c := range commands {
			checkCommand(t, m, help, name, c[1])
		}
	}
}

// checkCommand fails the test if a command's verb or one of its flags is not known.
func checkCommand(t *testing.T, m *mesh.Mesh, help map[string]string, file, command string) {
	t.Helper()
	command, _, _ = strings.Cut(command, " -- ")
	words := strings.Fields(command)
	if len(words) < 2 || words[0] != "malla" {
		return
	}
	verb, flags := "", []string{}
	for i := 1; i < len(words); i++ {
		w := strings.TrimRight(words[i], ";,")
		switch {
		case w == "&&" || w == "||" || w == "|" || w == ";":
			i = len(words)
		case w == "--mesh" || w == "-n":
			i++
		case strings.HasPrefix(w, "-"):
			flag, _, _ := strings.Cut(w, "=")
			flags = append(flags, flag)
		case verb == "":
			verb = w
		}
	}
	if verb == "" || verb == strings.ToUpper(verb) {
		return
	}
	if help[verb] == "" {
		r := m.Run(verb, "--help")
		if r.Code != 0 {
			t.Errorf("%s: %q: no verb %s: %s", file, command, verb, r.Err)
		}
		help[verb] = r.Out + " "
	}
	for _, f := range flags {
		if !regexp.MustCompile(`(^|[\s,])` + regexp.QuoteMeta(f) + `[\s=,]`).MatchString(help[verb]) {
			t.Errorf("%s: %q: %s has no flag %s", file, command, verb, f)
		}
	}
}
