// Package fdmsg sends JSON messages with open files over Unix sockets.
//
// A message is four bytes of length (big endian), then JSON; its descriptors
// travel with the length (SCM_RIGHTS). Both sizes are bounded, so that a peer
// cannot make us allocate what it likes. Deadlines are the connection's.
package fdmsg

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

const (
	// MaxSize bounds the JSON of one message.
	MaxSize = 4 << 20
	// MaxFiles bounds the descriptors of one message.
	MaxFiles = 8
)

var errSize = errors.New("message is too large")

func marshal(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if len(body) > MaxSize {
		return nil, fmt.Errorf("encode message of %d bytes, at most %d: %w", len(body), MaxSize, errSize)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

// closeAll drops files that nobody will own.
func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// readBody reads and decodes what follows the length.
func readBody(c *net.UnixConn, header [4]byte, v any) error {
	n := binary.BigEndian.Uint32(header[:])
	if n > MaxSize {
		return fmt.Errorf("read message of %d bytes, at most %d: %w", n, MaxSize, errSize)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	return nil
}
