//go:build unix

package fdmsg

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Write sends v with files, which stay the caller's. Callers serialize writes.
func Write(c *net.UnixConn, v any, files ...*os.File) error {
	msg, err := marshal(v)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		_, err = c.Write(msg)
		return err
	}
	if len(files) > MaxFiles {
		return fmt.Errorf("send %d descriptors, at most %d", len(files), MaxFiles)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	n, _, err := c.WriteMsgUnix(msg[:4], unix.UnixRights(fds...), nil)
	if err == nil {
		_, err = c.Write(msg[n:])
	}
	return err
}

// Read receives one message into v. The files are the caller's to close. At the
// end of the stream, between messages, the error is io.EOF.
func Read(c *net.UnixConn, v any) ([]*os.File, error) {
	var header [4]byte
	var files []*os.File
	oob := make([]byte, unix.CmsgSpace(MaxFiles*4))
	for n := 0; n < len(header); {
		m, oobn, flags, _, err := c.ReadMsgUnix(header[n:], oob)
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = fmt.Errorf("receive more than %d descriptors", MaxFiles)
		}
		got, rightsErr := rights(oob[:oobn])
		files = append(files, got...)
		if err == nil {
			err = rightsErr
		}
		if err == nil && m == 0 || errors.Is(err, io.EOF) { // net wraps it
			err = io.EOF
			if n > 0 {
				err = io.ErrUnexpectedEOF
			}
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		n += m
	}
	if err := readBody(c, header, v); err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func rights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, fmt.Errorf("parse descriptors: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}
