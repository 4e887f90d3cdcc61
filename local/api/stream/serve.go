package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/gorilla/websocket"
)

// Want is which streams a client asked for.
type Want struct {
	Stdin, Stdout, Stderr, TTY bool
}

// Run does the work: it returns when the command has ended. Its context ends when
// the client has gone.
type Run func(ctx context.Context, s Streams) error

// Serve takes the connection over, calls run with its streams and reports how it
// ended. An error is one that happened before the connection was taken over.
func Serve(w http.ResponseWriter, r *http.Request, want Want, run Run) error {
	if websocket.IsWebSocketUpgrade(r) {
		return serveWebSocket(w, r, want, run)
	}
	if _, ok := w.(http.Hijacker); !ok {
		return apierrors.NewBadRequest("exec needs a connection of its own")
	}
	serveSPDY(w, r, want, run)
	return nil
}

// idleLimit ends a connection on which nothing moves; kubelet's default too.
const idleLimit = 4 * time.Hour

func serveSPDY(w http.ResponseWriter, r *http.Request, want Want, run Run) {
	remotecommand.ServeExec(w, r, executor{run}, "", "", "", nil,
		&remotecommand.Options{Stdin: want.Stdin, Stdout: want.Stdout, Stderr: want.Stderr, TTY: want.TTY},
		idleLimit, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// executor is run in the shape that the SPDY library calls.
type executor struct{ run Run }

func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, _ []string, in io.Reader, out, errOut io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := Streams{TTY: tty, Resize: sizes(ctx, resize)}
	// Interfaces that hold a nil stream would not be nil.
	if in != nil {
		s.Stdin = in
	}
	if out != nil {
		s.Stdout = out
	}
	if errOut != nil {
		s.Stderr = errOut
	}
	err := e.run(ctx, s)
	if code, ok := exitStatus(err); ok {
		return utilexec.CodeExitError{Err: err, Code: code}
	}
	return err
}

func sizes(ctx context.Context, in <-chan remotecommand.TerminalSize) <-chan Size {
	if in == nil {
		return nil
	}
	out := make(chan Size)
	go func() {
		defer close(out)
		for {
			select {
			case s, ok := <-in:
				if !ok {
					return
				}
				select {
				case out <- Size{s.Width, s.Height}:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// exitStatus tells a command that ended with a status other than 0 from a
// command that could not be run.
func exitStatus(err error) (int, bool) {
	var e interface{ ExitStatus() int }
	if errors.As(err, &e) {
		return e.ExitStatus(), true
	}
	return 0, false
}

// result is the Status that ends protocol v4 and v5, from which kubectl makes its
// own exit code.
func result(err error) []byte {
	st := &metav1.Status{Status: metav1.StatusSuccess}
	if code, ok := exitStatus(err); ok {
		st = &metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", err),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}},
		}
	} else if err != nil {
		st = &apierrors.NewInternalError(fmt.Errorf("error executing command in container: %w", err)).ErrStatus
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return []byte(`{"status":"Failure"}`)
	}
	return raw
}
