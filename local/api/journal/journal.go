// Package journal keeps the objects of a store in one file that survives a crash
// at any moment.
//
// The file is lines. Each is a checksum, a space and a JSON record: an object's
// new state, or its deletion. Reading stops being trusted at the first line that
// is torn or damaged: what came before it is the state. A change is in the file
// (and so survives the death of the process) before the client hears of it; a
// power failure may cost the last [SyncEvery].
//
// When most of the file is history, it is written anew beside the old one and
// renamed over it. On a disk without room for that, the old one is gone on with; what the
// disk does not take at all waits, in order, and is tried again. A file that could not be brought to the disk (fsync) is not
// trusted any more, and written anew. Events are not kept: they are about processes that are gone.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/local/api/store"
)

// SyncEvery is how long a change may wait for the disk.
const SyncEvery = 200 * time.Millisecond

// compactAt is how many bytes of history are worth a rewrite.
const compactAt = 4 << 20

// maxRest is how many turns go by at most between two rewrites on a disk that does not take them: some 5 s.
const maxRest = 25

// A Journal is a store's log. It is safe for concurrent use.
type Journal struct {
	path string
	log  *slog.Logger

	open  func(path string, flag int) (file, error) // os.OpenFile, but in tests
	mu    sync.Mutex                                // guards all below; taken inside the store's lock
	file  file
	buf   bytes.Buffer      // lines that are not in the file yet
	torn  bool              // too many waited and were dropped: only a rewrite helps
	grown int               // bytes of the file up to which no rewrite for its size is tried
	live  map[store.Key]int // bytes of each object's latest record
	alive int               // their sum
	size  int               // of the file
	dirty bool              // written since the last fsync
	lost  error             // why an fsync failed: the kernel may have forgotten what it could not write, so that another fsync proves nothing; only a rewrite helps
	tail  *bytes.Buffer     // while the file is rewritten: what changes meanwhile
	err   error             // why the file lacks something; told once, writing goes on being tried
	rest  int               // turns in which no rewrite is tried
	pause int               // how many these were last

	source  func() (uint64, []*store.Object) // set by Snapshot
	work    chan struct{}                    // holds one if the syncer has something to do
	closing chan struct{}
	done    chan struct{}
}

// file is an [os.File].
type file interface {
	io.WriterAt
	Truncate(size int64) error
	Sync() error
	Close() error
}

func openFile(path string, flag int) (file, error) { return os.OpenFile(path, flag, 0o600) }

// record is one line.
type record struct {
	Version  uint64          `json:"v"`
	Resource string          `json:"r,omitempty"`
	Deleted  *name           `json:"deleted,omitempty"`
	Notices  []string        `json:"notices,omitempty"`
	Object   json.RawMessage `json:"o,omitempty"`
}

type name struct {
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"n"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open reads the file at path, which need not exist, and returns the journal
// with the latest version and the objects that the file holds.
func Open(path string, log *slog.Logger) (*Journal, uint64, []*store.Object, error) {
	return start(path, log, openFile)
}

func start(path string, log *slog.Logger, open func(string, int) (file, error)) (*Journal, uint64, []*store.Object, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, 0, nil, fmt.Errorf("directory of the state file: %w", err)
	}
	c, err := read(path, log)
	if err != nil {
		return nil, 0, nil, err
	}
	j := &Journal{path: path, log: log, open: open, work: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	// What was read is written anew, so a torn tail and old history go.
	if err := j.rewrite(c.version, c.objects); err != nil {
		if c.size == 0 {
			return nil, 0, nil, err
		}
		log.Warn("the state file cannot be written anew; it is gone on with as it is", "file", path, "error", err)
		if err := j.goOn(c); err != nil {
			return nil, 0, nil, err
		}
	}
	go j.syncer()
	return j, c.version, c.objects, nil
}

// goOn has what was read followed by what comes.
func (j *Journal) goOn(c contents) error {
	f, err := j.open(j.path, os.O_WRONLY)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	if err := f.Truncate(int64(c.size)); err != nil { // behind new records, old ones must not come to life
		f.Close()
		return fmt.Errorf("state file: %w", err)
	}
	j.file, j.live, j.size, j.grown = f, c.live, c.size, c.size+compactAt
	for _, n := range c.live {
		j.alive += n
	}
	return nil
}

// Snapshot gives the journal the store that it serves, from which it rewrites the file.
func (j *Journal) Snapshot(s *store.Store) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.source = s.Snapshot
}

// contents are what a file holds.
type contents struct {
	version uint64
	objects []*store.Object
	live    map[store.Key]int
	size    int // bytes that are in order
}

func read(path string, log *slog.Logger) (c contents, err error) {
	c.live = map[store.Key]int{}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("state file: %w", err)
	}
	defer f.Close()
	objects := map[store.Key]*store.Object{}
	r := bufio.NewReaderSize(f, 1<<16)
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil && err != io.EOF {
			return c, fmt.Errorf("state file %s: %w", path, err)
		}
		rec, ok := parse(line)
		if !ok {
			log.Warn("the state file ends in a torn record; the state before it is used", "file", path, "line", n)
			keepDamaged(f, c.size, path+".damaged", log)
			break
		}
		key, err := rec.apply(objects)
		if err != nil {
			return c, fmt.Errorf("state file %s, line %d: %w", path, n, err)
		}
		c.version = max(c.version, rec.Version)
		c.size += len(line)
		c.live[key] = len(line)
	}
	for k := range c.live {
		if o := objects[k]; o != nil {
			c.objects = append(c.objects, o)
		} else {
			delete(c.live, k)
		}
	}
	return c, nil
}

// keepDamaged leaves a copy of what is not used of a file for whoever wants to look, if there is room.
func keepDamaged(f *os.File, from int, path string, log *slog.Logger) {
	to, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = io.Copy(to, io.NewSectionReader(f, int64(from), math.MaxInt64-int64(from)))
		if err = errors.Join(err, to.Close()); err != nil {
			os.Remove(path) // the room is wanted for what comes
		}
	}
	if err != nil {
		log.Warn("keep a copy of the damaged part of the state file", "error", err)
	}
}

// parse checks and decodes one line. A line without its end is torn.
func parse(line []byte) (record, bool) {
	var rec record
	body, ok := bytes.CutSuffix(line, []byte("\n"))
	if !ok {
		return rec, false
	}
	sum, body, ok := bytes.Cut(body, []byte(" "))
	if !ok {
		return rec, false
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || uint32(want) != crc32.Checksum(body, castagnoli) {
		return rec, false
	}
	return rec, json.Unmarshal(body, &rec) == nil
}

// apply makes a record's change and returns whose it is.
func (rec *record) apply(objects map[store.Key]*store.Object) (store.Key, error) {
	if rec.Deleted != nil {
		key := store.Key{Resource: rec.Resource, Namespace: rec.Deleted.Namespace, Name: rec.Deleted.Name}
		delete(objects, key)
		return key, nil
	}
	if rec.Object == nil {
		return store.Key{}, nil // the head of a file, which carries the version only
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(rec.Object); err != nil {
		return store.Key{}, err
	}
	o := &store.Object{Key: store.Key{Resource: rec.Resource, Namespace: u.GetNamespace(), Name: u.GetName()},
		Version: rec.Version, JSON: rec.Object, Value: u, Notices: rec.Notices}
	objects[o.Key] = o
	return o.Key, nil
}

// kept reports whether a resource outlives the process.
func kept(resource string) bool {
	return resource != "events" && resource != "leases.coordination.k8s.io"
}

// Put implements store.Log.
func (j *Journal) Put(o *store.Object) {
	if !kept(o.Key.Resource) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n := j.add(record{Version: o.Version, Resource: o.Key.Resource, Notices: o.Notices, Object: o.JSON})
	j.alive += n - j.live[o.Key]
	j.live[o.Key] = n
	j.write()
}

// Delete implements store.Log.
func (j *Journal) Delete(k store.Key, version uint64) {
	if !kept(k.Resource) {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.add(record{Version: version, Resource: k.Resource, Deleted: &name{k.Namespace, k.Name}})
	j.alive -= j.live[k]
	delete(j.live, k)
	j.write()
}

// add adds a line to what is to be written, and returns its length.
func (j *Journal) add(rec record) int {
	line := appendLine(nil, rec)
	if j.tail != nil {
		j.tail.Write(line)
	}
	if !j.torn {
		j.buf.Write(line)
	}
	return len(line)
}

func appendLine(b []byte, rec record) []byte {
	object := rec.Object
	rec.Object = nil
	body, err := json.Marshal(rec)
	if err != nil {
		panic("journal: a record does not encode: " + err.Error()) // numbers and texts always do
	}
	if object != nil { // is JSON already; encoding it again would double the cost of a write
		body = append(append(append(body[:len(body)-1], `,"o":`...), object...), '}')
	}
	b = fmt.Appendf(b, "%08x ", crc32.Checksum(body, castagnoli))
	return append(append(b, body...), '\n')
}

// write writes what is in the buffer. If that fails (a full disk), the server goes on with
// its memory, says so once, and the lines wait: the next try begins at the same place in the file with
// the same bytes, so a torn line is never followed by others. Too many lines are dropped.
func (j *Journal) write() {
	if j.torn {
		j.wanted()
		return
	}
	n, err := j.file.WriteAt(j.buf.Bytes(), int64(j.size))
	if n > 0 || err != nil {
		j.dirty = true
		j.wanted()
	}
	if err != nil {
		j.tell(err)
	} else {
		j.tell(j.lost)
	}
	if err == nil {
		j.size += n
		j.buf.Reset()
	} else if j.buf.Len() > compactAt {
		j.torn = true
		j.buf = bytes.Buffer{}
	}
}

// tell keeps whether the file lacks something, and says so when that changes.
func (j *Journal) tell(err error) {
	switch {
	case err != nil && j.err == nil:
		j.log.Error("the state file cannot be written; changes live in memory until it can", "file", j.path, "error", err)
	case err == nil && j.err != nil:
		j.log.Info("the state file is whole again", "file", j.path)
		j.rest, j.pause = 0, 0
	}
	j.err = err
}

// Err is why the file does not hold what the store does, nil if it does.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// wanted has the syncer take a turn.
func (j *Journal) wanted() {
	select {
	case j.work <- struct{}{}:
	default: // it will anyway
	}
}

// syncer brings changes to the disk, and rewrites the file when it pays or when
// writing has failed and the file may have holes. Without changes it sleeps.
func (j *Journal) syncer() {
	defer close(j.done)
	for {
		select {
		case <-j.work:
		case <-j.closing:
			return
		}
		t := time.NewTimer(SyncEvery) // what comes meanwhile goes with it
		select {
		case <-t.C:
			j.turn()
		case <-j.closing:
			t.Stop()
			return
		}
	}
}

func (j *Journal) turn() {
	j.mu.Lock()
	if j.err != nil {
		j.write() // there may be room for what waits, if not for another file
	}
	f, dirty, source := j.file, j.dirty, j.source
	compact := j.err != nil || j.size > max(2*j.alive+compactAt, j.grown)
	if compact && j.err != nil && j.rest > 0 {
		j.rest--
		compact = false
	}
	j.dirty = false
	j.mu.Unlock()
	rewritten := compact && source != nil && j.compact(source)
	if source != nil && j.Err() != nil {
		j.wanted() // until the disk takes it
	}
	if dirty && !rewritten {
		if err := f.Sync(); err != nil {
			j.mistrust(f, err)
		}
	}
}

// mistrust has a file written anew that an fsync has failed for.
func (j *Journal) mistrust(f file, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file != f { // another one is on the disk already
		return
	}
	j.lost = fmt.Errorf("fsync: %w", err)
	j.tell(j.lost)
	j.wanted()
}

// compact rewrites the file from the store. The store's lock comes before the
// journal's, so the objects are read without holding the latter; what changes
// meanwhile is collected in tail and written after them. Some of it the objects
// include already: the later record wins, and it is the same or newer. It reports
// whether there is a new file, which is on the disk.
func (j *Journal) compact(source func() (uint64, []*store.Object)) bool {
	j.mu.Lock()
	j.tail = &bytes.Buffer{}
	j.mu.Unlock()
	version, objects := source()
	j.mu.Lock()
	defer j.mu.Unlock()
	tail := j.tail
	j.tail = nil
	if err := j.rewrite(version, objects); err != nil {
		if j.err == nil { // it only is longer than it need be
			j.log.Warn("rewrite the state file", "file", j.path, "error", err)
			j.grown = j.size + compactAt
		} else { // all state is put together for that: on a disk that stays full not five times a second
			j.pause = min(2*j.pause+1, maxRest)
			j.rest = j.pause
		}
		return false
	}
	j.buf.Reset() // which the objects include
	j.buf.Write(tail.Bytes())
	j.torn, j.grown, j.lost = false, 0, nil
	j.write()
	return true
}

// rewrite writes the objects into a new file and puts it in place of the old.
func (j *Journal) rewrite(version uint64, objects []*store.Object) error {
	tmp := j.path + ".new"
	f, err := j.open(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	live, alive := map[store.Key]int{}, 0
	text := appendLine(nil, record{Version: version})
	for _, o := range objects {
		if !kept(o.Key.Resource) {
			continue
		}
		before := len(text)
		text = appendLine(text, record{Version: o.Version, Resource: o.Key.Resource, Notices: o.Notices, Object: o.JSON})
		live[o.Key] = len(text) - before
		alive += live[o.Key]
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, j.path)
	}
	if err != nil {
		f.Close()
		os.Remove(tmp)
		return fmt.Errorf("state file: %w", err)
	}
	syncDir(filepath.Dir(j.path))
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.live, j.alive, j.size = f, live, alive, len(text)
	return nil
}

// syncDir makes a rename last.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}

// Close brings everything to the disk, or says why not.
func (j *Journal) Close() error {
	close(j.closing)
	<-j.done
	for range 2 { // what an fsync fails for is written anew, once
		j.rest = 0
		j.turn()
		if j.Err() == nil {
			break
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.err, j.file.Close())
}
