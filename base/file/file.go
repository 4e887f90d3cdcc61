// Package file reads files that others write, whatever they have put there.
//
// What a path names may have been replaced by a pipe that nobody writes to, or by a device without an end: whoever
// reads those as files waits for ever, or until there is no memory. Only regular files are read here, and only so much of them.
package file

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// Read returns what is in a regular file of at most so many bytes.
func Read(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe's other end is not waited for
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > most:
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), most)
	}
	text := make([]byte, 0, info.Size()+1)
	for {
		if len(text) == cap(text) { // it has grown, or is one of those whose size nobody knows
			text = append(text, 0)[:len(text)]
		}
		n, err := f.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case int64(len(text)) > most:
			return nil, fmt.Errorf("%s has more than the %d bytes that are read", path, most)
		case err == io.EOF:
			return text, nil
		case err != nil:
			return nil, err
		}
	}
}
