//go:build linux

package app

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A meshDir is the state directory of one local mesh.
type meshDir string

// Names in a mesh's directory.
const (
	fileState     = "state.json"  // the API server's objects
	fileAPI       = "api.sock"    // the API server
	fileBroker    = "broker.sock" // sockets in the host's network
	fileToken     = "admin.token" // of the API server's administrator
	fileAuthority = "api-ca.pem"  // signs the API server's certificate: certificate and key
	fileEndpoint  = "api.addr"    // host:port of the API server on loopback
	filePorts     = "ports.json"  // the ports that are open on this machine
	filePID       = "up.pid"
	fileLock      = "up.lock"
	fileLog       = "up.log"
	dirPods       = "pods"
)

var meshName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// Home returns the directory that holds all local meshes of this user.
func Home() (string, error) {
	if h := os.Getenv("MALLA_HOME"); h != "" {
		return filepath.Abs(h)
	}
	if h := os.Getenv("XDG_STATE_HOME"); h != "" {
		return filepath.Join(h, "malla"), nil
	}
	h, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the state directory: %w; set MALLA_HOME", err)
	}
	return filepath.Join(h, ".local", "state", "malla"), nil
}

// dirOf returns the directory of the mesh called name.
func dirOf(name string) (meshDir, error) {
	if !meshName.MatchString(name) {
		return "", fmt.Errorf("mesh name %q: want lower-case letters, digits and dashes, at most 40", name)
	}
	home, err := Home()
	if err != nil {
		return "", err
	}
	return meshDir(filepath.Join(home, name)), nil
}

func (d meshDir) path(name string) string { return filepath.Join(string(d), name) }

// make creates the directory, for this user only.
func (d meshDir) make() error {
	if err := os.MkdirAll(d.path(dirPods), 0o700); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	// A Unix socket's path has at most 107 bytes.
	if p := d.path(fileBroker); len(p) > 100 {
		return fmt.Errorf("state directory %s: its path is too long for a socket; set MALLA_HOME to a shorter one", d)
	}
	return os.Chmod(string(d), 0o700)
}

// errRunning says that another `up` holds the mesh.
var errRunning = errors.New("this mesh is running already")

// lock takes the mesh for this process until release; the system gives it back
// if the process dies.
func (d meshDir) lock() (release func(), err error) {
	f, err := os.OpenFile(d.path(fileLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errRunning
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// running reports whether some process holds the mesh.
func (d meshDir) running() bool {
	if _, err := os.Stat(d.path(fileLock)); err != nil {
		return false
	}
	release, err := d.lock()
	if err != nil {
		return errors.Is(err, errRunning)
	}
	release()
	return false
}

// pid returns the process that holds the mesh, 0 if none wrote its number.
func (d meshDir) pid() int {
	text, err := os.ReadFile(d.path(filePID))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return n
}

// token returns the administrator's token, made at the first start.
func (d meshDir) token() (string, error) {
	path := d.path(fileToken)
	text, err := os.ReadFile(path)
	if err == nil && len(text) >= 32 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 24)
	rand.Read(raw) // never fails (crypto/rand)
	token := hex.EncodeToString(raw)
	return token, writeFile(path, []byte(token+"\n"))
}

// writeFile replaces a file of the state directory so that a crash leaves the
// old or the new contents.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}

// poll calls done until it reports true or the time is over.
func poll(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
