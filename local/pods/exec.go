package pods

import (
	"context"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/local/api"
	"github.com/mallamesh/malla/local/sandbox"
)

// Exec implements the API server's backend.
func (k *Kubelet) Exec(ctx context.Context, namespace, pod string, o *corev1.PodExecOptions, s api.Streams) error {
	w, err := k.find(namespace, pod)
	if err != nil {
		return err
	}
	c := w.byName(o.Container)
	if c == nil {
		return fmt.Errorf("container %s is not valid for pod %s", o.Container, pod)
	}
	b := w.sandbox()
	if b == nil || c.current() == nil {
		return fmt.Errorf("container %q in pod %q does not run: %s", c.name, pod, c.why())
	}
	spec := sandbox.ExecSpec{Argv: o.Command, TTY: o.TTY}
	if s.Stdin != nil {
		spec.Stdin = s.Stdin
	}
	if s.Stdout != nil {
		spec.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		spec.Stderr = s.Stderr
	}
	if s.Resize != nil {
		sizes := make(chan sandbox.TerminalSize)
		spec.Resize = sizes
		go func() {
			for {
				select {
				case size, ok := <-s.Resize:
					if !ok {
						return
					}
					select {
					case sizes <- sandbox.TerminalSize{Width: size.Width, Height: size.Height}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	p, err := b.Exec(ctx, c.name, spec)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done(): // whoever asked has gone
		_ = p.Signal(sigKill)
	}
	if st := p.Wait(); st.Code != 0 {
		return &api.ExitError{Code: st.Code}
	}
	return nil
}

var _ api.PodBackend = (*Kubelet)(nil)
var _ io.Writer = (*logFile)(nil)
