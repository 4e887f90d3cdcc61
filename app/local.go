//go:build linux

package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/mallamesh/malla/cli"
)

// LocalMesh finds the API of the local mesh called name, nil if it does not run.
func LocalMesh(name string) (*cli.Local, error) {
	dir, err := dirOf(name)
	if err != nil {
		return nil, err
	}
	if !dir.running() {
		return nil, nil
	}
	addr, err := os.ReadFile(dir.path(fileEndpoint))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("mesh %q is starting", name)
	}
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(dir.path(fileAuthority))
	if err != nil {
		return nil, err
	}
	root, _ := splitPEM(authority)
	token, err := dir.token()
	if err != nil {
		return nil, err
	}
	return &cli.Local{Mesh: name, Server: "https://" + strings.TrimSpace(string(addr)), CA: root, Token: token}, nil
}

// superviseCommand runs `malla local supervise`. Its output is its log: nobody
// looks at its terminal, which is the parent's.
func superviseCommand(ctx context.Context, _ []string) error {
	return supervise(ctx)
}
