package journal

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mallamesh/malla/local/api/store"
)

// A forgetful file answers an fsync with an error, as Linux does: once, and what was to be written is not there afterwards.
type forgetful struct {
	*os.File
	fail   *atomic.Int64 // so many times
	synced int64         // bytes that are on the disk
}

func (f *forgetful) Sync() error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if f.fail.Add(-1) >= 0 {
		if _, err := f.File.WriteAt(make([]byte, info.Size()-f.synced), f.synced); err != nil {
			return err
		}
		return syscall.EIO
	}
	f.synced = info.Size()
	return f.File.Sync()
}

// What an fsync has failed for is written anew: asking for another one proves nothing, as the kernel has forgotten it.
func TestForgottenIsWrittenAnew(t *testing.T) {
	for _, test := range []struct {
		what string
		play func(t *testing.T, s *store.Store, j *Journal)
	}{
		{"in a turn", func(t *testing.T, s *store.Store, j *Journal) {
			j.turn()
			if j.Err() == nil {
				t.Error("nobody hears of it")
			}
			put(t, s, "c", "1") // goes on being written meanwhile
			if j.Err() == nil {
				t.Error("a write that went well has hidden it")
			}
			j.turn()
			if err := j.Err(); err != nil {
				t.Errorf("the next turn has not mended it: %v", err)
			}
		}},
		{"at the end", func(*testing.T, *store.Store, *Journal) {}},
	} {
		path := filepath.Join(t.TempDir(), "state.json")
		var fail atomic.Int64
		j, version, objects, err := start(path, quiet, func(path string, flag int) (file, error) {
			f, err := os.OpenFile(path, flag, 0o600)
			return &forgetful{File: f, fail: &fail}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		s := store.New(max(version, 1), objects, j)
		j.Snapshot(s)
		if test.what == "in a turn" {
			close(j.closing)
			<-j.done // from here on the turns are ours
		}
		put(t, s, "a", "1")
		put(t, s, "b", "1")
		fail.Store(1)
		test.play(t, s, j)
		want := state(s)
		if test.what == "in a turn" {
			j.closing = make(chan struct{}) // Close closes it once more
		}
		if err := j.Close(); err != nil {
			t.Errorf("%s: Close: %v", test.what, err)
		}
		again, other := open(t, path)
		if got := state(again); got != want {
			t.Errorf("%s: there is\n%swant\n%s", test.what, got, want)
		}
		other.Close()
	}
}
