package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	links  = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	paths  = regexp.MustCompile("[\\s`(]((?:samples|docs|app|cli|config|control|local|model|proxy|translate|test|scripts)/[A-Za-z0-9./_-]+)")
	remark = regexp.MustCompile(`\s+# .*$`)
)

// What the documents link to and name is there. (That their commands work is for
// the suite in script.)
func TestDocumentsNameFilesThatExist(t *testing.T) {
	walk(t, func(file string) {
		if filepath.Ext(file) != ".md" || strings.Contains(file, "testdata") {
			return
		}
		text := read(t, file)
		for _, l := range links.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), l[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, l[1], err)
			}
		}
		for _, p := range paths.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", strings.TrimRight(p[1], "./"))); err != nil {
				t.Errorf("%s names %s: %v", file, p[1], err)
			}
		}
	})
}

// The Spanish README shows the same commands, outputs and links as the English one.
func TestBothReadmesShowTheSame(t *testing.T) {
	english, spanish := read(t, "../README.md"), read(t, "../README.es.md")
	if e, s := blocks(english), blocks(spanish); !slices.Equal(e, s) {
		t.Errorf("README.es.md shows other commands than README.md:\n%s\nwant\n%s", strings.Join(s, "\n"), strings.Join(e, "\n"))
	}
	targets := func(text string) []string {
		var all []string
		for _, l := range links.FindAllStringSubmatch(text, -1) {
			if !strings.HasPrefix(l[1], "README") {
				all = append(all, l[1])
			}
		}
		slices.Sort(all)
		return all
	}
	if e, s := targets(english), targets(spanish); !slices.Equal(e, s) {
		t.Errorf("README.es.md links to %q, README.md to %q", s, e)
	}
}

// blocks are the indented lines of a document, without remarks.
func blocks(text string) []string {
	var all []string
	for _, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "    ") {
			all = append(all, remark.ReplaceAllString(l, ""))
		}
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
