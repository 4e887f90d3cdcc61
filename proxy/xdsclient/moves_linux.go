package xdsclient

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// moves tells what is moved into directories. What is written or made there in place it does not tell, as Envoy: that
// would be read in the middle of being written.
type moves struct {
	file  *os.File
	fd    int
	names chan string // paths
	errs  chan error
	done  chan struct{}

	mu   sync.Mutex
	dirs map[int32]string // guarded by mu; by watch
}

var errMissed = errors.New("more changes than the system remembers: some were missed")

func newMoves() (*moves, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	m := &moves{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, names: make(chan string), errs: make(chan error), done: make(chan struct{}), dirs: map[int32]string{}}
	go m.run()
	return m, nil
}

// add watches a directory, once however often it is added.
func (m *moves) add(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	watch, err := unix.InotifyAddWatch(m.fd, dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
	if err == nil {
		m.dirs[int32(watch)] = filepath.Clean(dir)
	}
	return err
}

// close ends it.
func (m *moves) close() {
	close(m.done)
	m.file.Close()
}

func (m *moves) run() {
	var b [64 << 10]byte
	for {
		n, err := m.file.Read(b[:])
		if err != nil {
			m.fail(err)
			return
		}
		for rest := b[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			watch, mask := int32(binary.NativeEndian.Uint32(rest)), binary.NativeEndian.Uint32(rest[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name := unix.ByteSliceToString(rest[unix.SizeofInotifyEvent:end])
			rest = rest[end:]
			switch {
			case mask&unix.IN_Q_OVERFLOW != 0:
				m.fail(errMissed)
			case mask&unix.IN_MOVED_TO != 0 && !m.tell(watch, name):
				return
			}
		}
	}
}

// tell reports whether somebody still listens.
func (m *moves) tell(watch int32, name string) bool {
	m.mu.Lock()
	dir := m.dirs[watch]
	m.mu.Unlock()
	select {
	case m.names <- filepath.Join(dir, name):
		return true
	case <-m.done:
		return false
	}
}

func (m *moves) fail(err error) {
	select {
	case m.errs <- err:
	case <-m.done:
	}
}
