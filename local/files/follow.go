package files

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be quiet before they are read: editors write in
// several steps. It is part of the time from a save to a route in force.
const settle = 15 * time.Millisecond

// maxWatched bounds the directories that are watched.
const maxWatched = 4096

// Follow makes a Pass after every change below the paths, until ctx ends. It
// returns an error only if the system lets nothing be watched.
func (f *Follower) Follow(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	f.watch(w)
	f.seen = f.look()
	f.Pass(ctx) // what changed before the watch began
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
	look := time.NewTicker(cmp.Or(f.Look, time.Second))
	defer look.Stop()
	for {
		select {
		case e, ok := <-w.Events:
			if !ok {
				return nil
			}
			if e.Op != fsnotify.Chmod {
				quiet.Reset(settle)
			}
		case <-w.Errors: // events were lost: read everything again
			quiet.Reset(settle)
		case <-look.C:
			if f.changed(w) || f.undone {
				quiet.Reset(settle)
			}
		case <-quiet.C:
			f.seen = f.look()
			f.Pass(ctx)
			f.watch(w)
		case <-ctx.Done():
			return nil
		}
	}
}

// watch adds the directories that are not watched yet. One that has gone is
// dropped by the watcher itself; it is added anew when it is back.
func (f *Follower) watch(w *fsnotify.Watcher) {
	still := map[string]bool{}
	for _, dir := range w.WatchList() {
		still[dir] = true
	}
	add := func(dir string) {
		if !still[dir] && len(still) < maxWatched && w.Add(dir) == nil {
			still[dir] = true
		}
	}
	for _, dir := range f.dirs() {
		add(dir)
		if !f.Recursive {
			continue
		}
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				add(path)
			}
			return nil
		})
	}
}

// look takes down what the files and directories are like; nil stands for one that is not there.
func (f *Follower) look() map[string]os.FileInfo {
	now := map[string]os.FileInfo{}
	note := func(path string) {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		now[path] = info
	}
	for _, dir := range f.dirs() {
		note(dir)
	}
	for file := range f.files {
		note(file)
	}
	return now
}

// changed reports what the watcher does not: a directory that is another one than it was, or is there
// again, and a symlink's target that was written. It stops watching what is no longer at its place.
func (f *Follower) changed(w *fsnotify.Watcher) bool {
	changed, seen := false, f.seen
	f.seen = f.look()
	for path, now := range f.seen {
		before, known := seen[path]
		switch {
		case !known || now == nil && before == nil:
			continue
		case now != nil && before != nil && os.SameFile(now, before):
			changed = changed || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime())
			continue
		}
		changed = true
		_ = w.Remove(path) // an error says that it is not watched
	}
	return changed
}
