//go:build linux

package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/cli"
	"github.com/mallamesh/malla/config/load"
	"github.com/mallamesh/malla/config/validate"
	"github.com/mallamesh/malla/local/files"
	"github.com/mallamesh/malla/local/seed"
)

// clientOf reaches the API over its Unix socket.
func clientOf(socket, token string) *rest.Config {
	return &rest.Config{
		Host: "http://malla", BearerToken: token, QPS: -1,
		WarningHandler: rest.NoWarnings{}, // what has no effect is said when somebody looks at the object
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
}

// follow applies the files, shows the pods on their way, and then follows the files.
func (u *up) follow(ctx context.Context) error {
	cfg := clientOf(u.dir.path(fileAPI), u.token)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	anything, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	transport, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	show := cli.NewProgress(u.o.Out, u.o.Terminal, u.began)
	var shown map[string]bool
	f := files.New(files.Options{
		Paths: u.o.Paths, Recursive: u.o.Recursive, Client: anything,
		Check: func(d *load.Doc) field.List { return validate.Object(d.Object, d.Pos).Errors },
		Reject: func(all []files.Rejection) {
			if ctx.Err() != nil {
				return // whoever ends the mesh is not told what was not applied any more
			}
			now := map[string]bool{}
			for _, r := range all {
				line := rejectionLine(r)
				if now[line] = true; !shown[line] {
					fmt.Fprintln(u.o.Err, "malla: error: "+line)
				}
			}
			shown = now
			u.reject(ctx, transport, all)
		},
		Tell: func(e files.Event) {
			if u.tell.Load() && e.Change != files.Unchanged {
				fmt.Fprintf(u.o.Out, "%s %s %s (%s)\n", time.Now().Format(time.TimeOnly), e.Key, e.Change, e.Source)
			}
		},
	})
	if err := f.Adopt(ctx); err != nil {
		return err
	}
	wrong := f.Pass(ctx)
	if left := f.Left(); len(left) > 0 && ctx.Err() == nil {
		fmt.Fprintln(u.o.Err, "malla: note: applied by hand in an earlier run, and here again: "+names(left)+"; `"+u.typed+" "+meshFlag(u.o.Mesh)+"delete` ends that")
	}
	if f.Empty() && ctx.Err() == nil {
		below := "; -R reads those of the directories below it, too"
		if u.o.Recursive {
			below = ""
		}
		fmt.Fprintf(u.o.Err, "malla: warning: no manifest in %s, so that only the control plane runs: it wants files %s%s\n",
			strings.Join(u.o.Paths, ", "), strings.Join(load.Extensions, ", "), below)
	}
	if err := u.put(ctx, transport, appliedPath, nil); err != nil {
		return fmt.Errorf("have the mesh begin: %w", err)
	}
	// Only now, so that it starts on the CA and the settings that the files bring.
	if err := seed.ControlPlane(ctx, anything); err != nil {
		return err
	}
	// From here on the files are followed: who sees a pod that does not start mends its file.
	following := make(chan error, 1)
	go func() { following <- f.Follow(ctx) }()
	state := &state{u: u, client: client, dynamic: anything}
	if err := state.waitUntilReady(ctx, show); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err := state.settle(ctx, transport); err != nil && ctx.Err() == nil {
		show.Say("malla: warning: %v", err)
	}
	show.Done()
	cli.Ready(u.o.Out, time.Since(u.began), state.summary(ctx))
	if u.o.Detach {
		if err := announce(len(wrong), u.dir.path(fileLog)); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(u.o.Out, "\nFollowing the files. Ctrl-C ends the mesh.")
	}
	u.tell.Store(true)
	return <-following
}

// names are the first of the keys, and how many more there are.
func names(keys []files.Key) string {
	const most = 5
	var out []string
	for _, k := range keys[:min(len(keys), most)] {
		out = append(out, k.String())
	}
	if more := len(keys) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

func rejectionLine(r files.Rejection) string {
	name := r.Name
	if r.Namespace != "" && name != "" {
		name = r.Namespace + "/" + name
	}
	if name = strings.TrimSpace(r.Kind + " " + name); name == "" {
		return r.Source + ": " + r.Message
	}
	return r.Source + ": " + name + ": " + r.Message
}

// reject tells the API what is wrong with the files, for `malla get`.
func (u *up) reject(ctx context.Context, client *http.Client, all []files.Rejection) {
	if all == nil {
		all = []files.Rejection{}
	}
	body, err := json.Marshal(all)
	if err != nil {
		return
	}
	_ = u.put(ctx, client, rejectionsPath, body) // what is not told now is told after the next pass
}

// put tells the supervisor something.
func (u *up) put(ctx context.Context, client *http.Client, path string, body []byte) error {
	_, err := u.ask(ctx, client, http.MethodPut, path, body)
	return err
}

// get asks the supervisor something.
func (u *up) get(ctx context.Context, client *http.Client, path string) (string, error) {
	return u.ask(ctx, client, http.MethodGet, path, nil)
}

func (u *up) ask(ctx context.Context, client *http.Client, method, path string, body []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://malla"+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return "", err
	case resp.StatusCode/100 != 2:
		return "", fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return string(answer), nil
}

// Detaching. The process that people started runs this program again, in a
// session of its own, passes on what it prints, and leaves when it says so.
const (
	envDetached = "MALLA_DETACHED" // set for the process in the background
	readyFD     = 3
)

// announce tells the process in front that everything is ready, and lets go of
// its terminal: what there is to say from now on goes to the log. wrong is the
// number of documents that were not applied.
func announce(wrong int, log string) error {
	f := os.NewFile(readyFD, "front")
	if _, err := fmt.Fprintf(f, "ready %d\n", wrong); err != nil {
		return err
	}
	f.Close()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	return redirect(out, 1, 2)
}
