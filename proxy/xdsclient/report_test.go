package xdsclient

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// What is reported is said at once, and on each stream anew, behind the subscriptions.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		streams := make(chan *fake, 1)
		c := New(Options{Node: &corev3.Node{Id: "me"}, Consumer: &consumer{}, Log: slog.New(slog.DiscardHandler), Open: func(ctx context.Context) (Stream, error) {
			f := &fake{ctx: ctx, sent: make(chan *Request, 16), recv: make(chan *Response), fail: make(chan error)}
			streams <- f
			return f, nil
		}})
		go func() { _ = c.Run(t.Context()) }()
		next := func(f *fake, want string) {
			t.Helper()
			if r := <-f.sent; r.GetTypeUrl() != want {
				t.Errorf("sent %v, want one of type %s", r, want)
			}
		}
		f := <-streams
		next(f, ClusterType)
		c.Report(&Request{TypeUrl: "well"})
		next(f, "well")
		c.Wake()
		c.Report(&Request{TypeUrl: "unwell"})
		next(f, "unwell")
		f.fail <- errors.New("gone")
		f = <-streams
		next(f, ClusterType)
		next(f, "unwell")
		synctest.Wait()
		if len(f.sent) > 0 {
			t.Errorf("said too often: %v", <-f.sent)
		}
	})
}
