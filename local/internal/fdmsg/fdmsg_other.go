//go:build !unix

package fdmsg

import (
	"errors"
	"net"
	"os"
)

var errUnix = errors.New("passing descriptors needs a Unix system")

// Write needs a Unix system.
func Write(*net.UnixConn, any, ...*os.File) error { return errUnix }

// Read needs a Unix system.
func Read(*net.UnixConn, any) ([]*os.File, error) { return nil, errUnix }
