//go:build !unix

package proxy

import (
	"errors"
	"os"
)

func duplicate(uintptr) (*os.File, error) {
	return nil, errors.New("sockets of others need a Unix system")
}
