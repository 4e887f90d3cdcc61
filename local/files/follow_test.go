package files

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Whatever becomes of the directory, and however a file is written, what stands there in the end is in force.
func TestFollowNeverLosesSight(t *testing.T) {
	x := newFixture(t)
	x.dir = filepath.Join(x.dir, "mesh")
	target := filepath.Join(t.TempDir(), "elsewhere.yaml")
	file := filepath.Join(x.dir, "a.yaml")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	save := func(path, text string) { t.Helper(); must(os.WriteFile(path, []byte(text), 0o600)) }
	must(os.Mkdir(x.dir, 0o700))
	save(file, configMap("one", "{k: first}"))

	passes := make(chan struct{}, 1)
	x.f = x.follower()
	x.f.Look, x.f.Tell = 5*time.Millisecond, nil
	x.f.Reject = func([]Rejection) {
		select {
		case passes <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- x.f.Follow(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	awaits := func(what, want string) {
		t.Helper()
		for got := x.data("one"); got != "map[k:"+want+"]"; got = x.data("one") {
			select {
			case <-passes:
			case <-ctx.Done():
				t.Fatalf("%s: %s, want %s", what, got, want)
			}
		}
	}
	awaits("at first", "first")

	must(os.Remove(file))
	save(target, configMap("one", "{k: linked}"))
	must(os.Symlink(target, file))
	awaits("a symlink", "linked")
	save(target, configMap("one", "{k: through}"))
	awaits("what a symlink leads to is written", "through")

	must(os.Rename(x.dir, x.dir+".away"))
	<-passes // it has been looked for and not found
	awaits("a directory that has gone takes nothing along", "through")
	must(os.Mkdir(x.dir, 0o700))
	save(file, configMap("one", "{k: back}"))
	awaits("another directory stands in its place", "back")
	save(file, configMap("one", "{k: watched}"))
	awaits("which is watched", "watched")

	must(os.RemoveAll(x.dir))
	must(os.Mkdir(x.dir, 0o700))
	save(file, configMap("one", "{k: new}"))
	awaits("a directory that is made anew at once", "new")
	save(file, configMap("one", "{k: and watched}"))
	awaits("which is watched", "and watched")
}
