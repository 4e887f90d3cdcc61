package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/mallamesh/malla/local/api/store"
)

// A disk has room for so many bytes in the state file and in the one that is to take its place. Beyond them, it takes
// what there is room for, and says so.
type disk struct{ file, second, synced atomic.Int64 }

type onDisk struct {
	*os.File
	room, synced *atomic.Int64
}

func (d *disk) open(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, ".new") && d.second.Load() > 0 {
		return onDisk{f, &d.second, &d.synced}, nil
	}
	return onDisk{f, &d.file, &d.synced}, nil
}

func (f onDisk) WriteAt(b []byte, at int64) (int, error) {
	room := f.room.Load()
	if at+int64(len(b)) <= room {
		return f.File.WriteAt(b, at)
	}
	n, _ := f.File.WriteAt(b[:max(0, room-at)], at)
	return n, syscall.ENOSPC
}

func (f onDisk) Sync() error {
	f.synced.Add(1)
	return f.File.Sync()
}

func (d *disk) start(t *testing.T, path string) (*store.Store, *Journal) {
	t.Helper()
	j, version, objects, err := start(path, quiet, d.open)
	if err != nil {
		t.Fatal(err)
	}
	s := store.New(max(version, 1), objects, j)
	j.Snapshot(s)
	return s, j
}

// shrink leaves a disk with room for n more bytes in the file and for none of a second.
func (d *disk) shrink(j *Journal, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.file.(onDisk)
	j.file = onDisk{f.File, &d.file, &d.synced}
	d.file.Store(int64(j.size + n))
	d.second.Store(1)
}

// What a full disk does not take waits, and is written as soon as there is room for it: none for a second copy of all is needed,
// nor to open the file again.
func TestRoomForRecordsOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	var d disk
	d.file.Store(1 << 30)
	s, j := d.start(t, path)
	for i := range 10 {
		put(t, s, fmt.Sprint("a", i), "1")
	}
	before := state(s)
	d.shrink(j, 100)
	put(t, s, "large", strings.Repeat("x", 9000))
	put(t, s, "a1", "2")
	if j.Err() == nil {
		t.Fatal("nobody hears that the disk is full")
	}
	again, other := open(t, copied(t, path)) // it could end here
	if got := state(again); got != before {
		t.Errorf("after an end on a full disk:\n%swant\n%s", got, before)
	}
	other.Close()

	d.file.Add(30_000)
	put(t, s, "b", "1")
	if err := j.Err(); err != nil {
		t.Errorf("there is room again, and still: %v", err)
	}
	j.turn()
	want := state(s)
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	again, j = d.start(t, path)
	if got := state(again); got != want {
		t.Errorf("opened without room for a copy:\n%swant\n%s", got, want)
	}
	put(t, again, "c", "1")
	want = state(again)
	if err := j.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	again, j = open(t, path)
	defer j.Close()
	if got := state(again); got != want {
		t.Errorf("opened with room:\n%swant\n%s", got, want)
	}
}

// A file that has grown and cannot be written anew is brought to the disk all the same.
func TestChangesLastWithoutRoomForAnother(t *testing.T) {
	var d disk
	d.file.Store(1 << 30)
	s, j := d.start(t, filepath.Join(t.TempDir(), "state.json"))
	close(j.closing)
	<-j.done // from here on the turns are ours
	for i := range 8 {
		put(t, s, "a", strings.Repeat(fmt.Sprint(i), 1<<20))
	}
	d.shrink(j, 1<<20)
	put(t, s, "b", "1")
	before := d.synced.Load()
	j.turn()
	if j.grown == 0 {
		t.Fatal("the file was written anew")
	}
	if d.synced.Load() == before {
		t.Error("what has changed is not on the disk, and nobody will see to it")
	}
}

// On a disk that stays full the state is put together ever more seldom, though not for ever; and at once on the next one.
func TestFullDiskIsTriedEverMoreSeldom(t *testing.T) {
	var d disk
	d.file.Store(1 << 30)
	s, j := d.start(t, filepath.Join(t.TempDir(), "state.json"))
	close(j.closing)
	<-j.done // from here on the turns are ours
	tries, open := 0, j.open
	j.open = func(path string, flag int) (file, error) {
		tries++
		return open(path, flag)
	}
	turns := func(n int) int {
		tries = 0
		for range n {
			j.turn()
		}
		return tries
	}
	d.shrink(j, 10)
	put(t, s, "a", "1")
	if n := turns(200); n < 200/(maxRest+1) || n > 4+200/maxRest {
		t.Errorf("all state is put together %d times in 200 turns, want it ever more seldom", n)
	}
	select {
	case <-j.work:
	default:
		t.Error("nobody will try again")
	}
	d.file.Store(1 << 30)
	d.second.Store(1 << 30)
	turns(1)
	if j.Err() != nil {
		t.Error("there is room, and what waits is not written at once")
	}
	d.shrink(j, 10)
	put(t, s, "a", "2")
	if n := turns(2); n != 1 {
		t.Errorf("the next time the state is put together %d times in two turns, want at once", n)
	}
}

// Close tries once more, and says what the file lacks.
func TestCloseOnAFullDisk(t *testing.T) {
	for _, full := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "state.json")
		var d disk
		d.file.Store(1 << 30)
		s, j := d.start(t, path)
		d.shrink(j, 10)
		put(t, s, "a", "1")
		if !full {
			d.file.Add(1000)
		}
		if err := j.Close(); (err != nil) != full {
			t.Errorf("full: %v, Close says %v", full, err)
		}
	}
}

// More than a few MiB do not wait in memory: the file gets everything in one piece when there is room.
func TestTooMuchWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	var d disk
	d.file.Store(1 << 30)
	s, j := d.start(t, path)
	d.shrink(j, 10)
	for i := range 5 {
		put(t, s, "a", strings.Repeat(fmt.Sprint(i), 1<<20))
	}
	j.mu.Lock()
	waiting := j.buf.Len()
	j.mu.Unlock()
	if waiting > compactAt {
		t.Errorf("%d bytes wait, want at most %d", waiting, compactAt)
	}
	d.file.Store(1 << 30)
	put(t, s, "b", "1") // not behind what is missing
	if j.Err() == nil {
		t.Error("what was dropped is forgotten")
	}
	d.second.Store(1 << 30)
	want := state(s)
	if err := j.Close(); err != nil {
		t.Error(err)
	}
	again, j := open(t, path)
	defer j.Close()
	if got := state(again); got != want {
		t.Errorf("got %.80q want %.80q", got, want)
	}
}

// A file that is damaged where there is no room to write it anew goes on in front of the damage, and nothing from behind comes to life.
func TestDamageWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s, j := open(t, path)
	put(t, s, "a", "1")
	before := state(s)
	for i := range 5 {
		put(t, s, "b", fmt.Sprint(i)) // records of one length: a new one ends where one of these began
	}
	j.Close()
	raw, _ := os.ReadFile(path)
	i := strings.Index(string(raw), `"name":"b"`)
	raw[i] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	var d disk
	d.file.Store(1 << 30)
	d.second.Store(1)
	s, j = d.start(t, path)
	if got := state(s); got != before {
		t.Fatalf("got\n%swant\n%s", got, before)
	}
	put(t, s, "b", "9")
	want := state(s)
	j.Close()
	s, j = d.start(t, path)
	defer j.Close()
	if got := state(s); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func copied(t *testing.T, path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}
