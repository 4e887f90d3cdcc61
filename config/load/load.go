// Package load reads configuration objects from files and remembers where every
// field was written.
//
// It reads what kubectl reads, with the same meaning: YAML as kubectl's own parser
// understands it, JSON, several documents in a file, lists of objects, and
// directories with a kustomization. A document that cannot be read is an error
// with file and line; the others are returned all the same.
//
// Whether an object is right is not judged here: package validate does that, and
// asks a [Doc] for the positions of what it finds.
package load

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mallamesh/malla/base/field"
)

// Bounds on what is read: above them a file is not configuration by mistake of ours.
const (
	MaxFile      = 8 << 20 // bytes of one file
	MaxDocuments = 10_000  // of one file
	MaxFiles     = 20_000  // of one directory
	maxDepth     = 100     // of nested fields
)

// A Result is what was found below one path.
type Result struct {
	Docs   []*Doc
	Errors field.List // with Pos; one per document or file that could not be read
	Files  []string   // that were read, sorted; kustomizations and what they name as well
	// Partial says that objects may be missing in Docs of which no error tells the
	// file: a kustomization could not be built.
	Partial bool
}

// Extensions are the endings of the files that are read from a directory.
var Extensions = []string{".json", ".yaml", ".yml"}

// Path reads a file, a directory with a kustomization, or the files of a directory;
// recursive reads the files of the directories below it too. An error is returned
// only if path itself cannot be read.
func Path(path string, recursive bool) (*Result, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	r := &Result{}
	switch {
	case !info.IsDir():
		r.file(path)
	case kustomization(path) != "":
		r.kustomize(path)
	default:
		if err := r.dir(path, recursive); err != nil {
			return nil, err
		}
	}
	slices.Sort(r.Files)
	r.Files = slices.Compact(r.Files)
	return r, nil
}

// dir reads the files of a directory in the order of their names.
func (r *Result) dir(dir string, recursive bool) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil:
			r.errorf(path, "%v", err)
			return nil
		case e.IsDir():
			if path != dir && !recursive {
				return filepath.SkipDir
			}
			return nil
		case !slices.Contains(Extensions, filepath.Ext(path)):
			return nil
		case len(r.Files) == MaxFiles:
			r.errorf(dir, "more than %d files; name a directory that holds only configuration", MaxFiles)
			return filepath.SkipAll
		}
		r.file(path)
		return nil
	})
}

func (r *Result) file(path string) {
	data, err := readFile(path)
	if err != nil {
		if !os.IsNotExist(err) { // else it vanished while the directory was read
			r.errorf(path, "%v", err)
		}
		return
	}
	r.Files = append(r.Files, path)
	docs, errs := Bytes(path, data)
	r.Docs = append(r.Docs, docs...)
	r.Errors = append(r.Errors, errs...)
}

// readFile reads a file of bounded size. A pipe or device is refused: reading it might never end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("not a regular file")
	case info.Size() > MaxFile:
		return nil, fmt.Errorf("%d bytes, want at most %d", info.Size(), MaxFile)
	}
	return os.ReadFile(path)
}

func (r *Result) errorf(pos, format string, args ...any) {
	r.Errors = append(r.Errors, &field.Error{Pos: pos, Msg: strings.TrimSpace(fmt.Sprintf(format, args...))})
}
