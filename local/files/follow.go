package files

import (
	"context"
	"fmt"
	"io/fs"
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
	f.Pass(ctx) // what changed before the watch began
	quiet := time.NewTimer(settle)
	quiet.Stop()
	defer quiet.Stop()
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
		case <-quiet.C:
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
