//go:build !linux

package xdsclient

import "github.com/fsnotify/fsnotify"

// moves tells what appears in directories. Linux alone tells what is moved there from what is made there in place; elsewhere
// that may be read in the middle of being written.
type moves struct {
	watcher *fsnotify.Watcher
	names   chan string // paths
	errs    chan error
	done    chan struct{}
}

func newMoves() (*moves, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	m := &moves{watcher: w, names: make(chan string), errs: make(chan error), done: make(chan struct{})}
	go m.run()
	return m, nil
}

// add watches a directory, once however often it is added.
func (m *moves) add(dir string) error { return m.watcher.Add(dir) }

// close ends it.
func (m *moves) close() {
	close(m.done)
	m.watcher.Close()
}

func (m *moves) run() {
	for {
		select {
		case e, ok := <-m.watcher.Events:
			if !ok {
				return
			}
			if !e.Has(fsnotify.Create) {
				continue
			}
			select {
			case m.names <- e.Name:
			case <-m.done:
				return
			}
		case err, ok := <-m.watcher.Errors:
			if !ok {
				return
			}
			select {
			case m.errs <- err:
			case <-m.done:
				return
			}
		case <-m.done:
			return
		}
	}
}
