package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/local/api/store"
	"github.com/mallamesh/malla/local/api/stream"
)

// pod returns the pod that the request names and its containers' names.
func (s *Server) pod(q *request) (*store.Object, []string, error) {
	o := s.store.Get(q.key(q.name))
	if o == nil {
		return nil, nil, notFound(q.res, q.name)
	}
	var names []string
	spec := asMap(o.Value.Object["spec"])
	for _, part := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _ := spec[part].([]any)
		for _, c := range list {
			names = append(names, text(c, "name"))
		}
	}
	return o, names, nil
}

// pickContainer settles which container is meant. kubectl itself knows the
// annotation for the default one; without it and a choice, one must be named.
func pickContainer(o *store.Object, names []string, want string) (string, error) {
	if want == "" {
		containers, _, _ := unstructured.NestedSlice(o.Value.Object, "spec", "containers")
		if len(containers) == 1 {
			return text(containers[0], "name"), nil
		}
		if d := o.Value.GetAnnotations()["kubectl.kubernetes.io/default-container"]; d != "" {
			want = d
		} else {
			return "", badRequest("a container name must be specified for pod %s, choose one of: %v", o.Key.Name, names[:len(containers)])
		}
	}
	for _, n := range names {
		if n == want {
			return want, nil
		}
	}
	return "", badRequest("container %s is not valid for pod %s", want, o.Key.Name)
}

func (s *Server) backend() (PodBackend, error) {
	if p := s.pods.Load(); p != nil && *p != nil {
		return *p, nil
	}
	return nil, apierrors.NewServiceUnavailable(errNoPods.Error())
}

// podLogs answers GET pods/NAME/log.
func (s *Server) podLogs(w http.ResponseWriter, q *request) error {
	if q.Method != http.MethodGet {
		return methodNotAllowed(q.res, strings.ToLower(q.Method))
	}
	opts, err := logOptions(q.query)
	if err != nil {
		return err
	}
	o, names, err := s.pod(q)
	if err != nil {
		return err
	}
	if opts.Container, err = pickContainer(o, names, opts.Container); err != nil {
		return err
	}
	b, err := s.backend()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	r, err := b.Logs(ctx, q.namespace, q.name, opts)
	if err != nil {
		return asPodError(err)
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { r.Close() })()
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	copyFlushing(w, r)
	return nil
}

// asPodError makes an error of the pods' side one that clients understand.
func asPodError(err error) error {
	var st apierrors.APIStatus
	if errors.As(err, &st) {
		return err
	}
	return badRequest("%v", err)
}

// copyFlushing copies a stream so that each piece reaches the client at once.
func copyFlushing(w http.ResponseWriter, r io.Reader) {
	rc := http.NewResponseController(w)
	rc.Flush()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			rc.SetWriteDeadline(time.Now().Add(sendTimeout))
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			if rc.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// podExec answers pods/NAME/exec, over WebSocket or SPDY.
func (s *Server) podExec(w http.ResponseWriter, q *request) error {
	opts := execOptions(q.query)
	if len(opts.Command) == 0 {
		return badRequest("you must specify at least 1 command for the container")
	}
	if !opts.Stdin && !opts.Stdout && !opts.Stderr {
		return badRequest("you must specify at least one of stdin, stdout, stderr")
	}
	o, names, err := s.pod(q)
	if err != nil {
		return err
	}
	if opts.Container, err = pickContainer(o, names, opts.Container); err != nil {
		return err
	}
	b, err := s.backend()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(q.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	want := stream.Want{Stdin: opts.Stdin, Stdout: opts.Stdout, Stderr: opts.Stderr && !opts.TTY, TTY: opts.TTY}
	return stream.Serve(w, q.Request.WithContext(ctx), want, func(ctx context.Context, st Streams) error {
		return b.Exec(ctx, q.namespace, q.name, opts, st)
	})
}

// bindPod answers POST pods/NAME/binding, by which a scheduler says where a pod runs.
func (s *Server) bindPod(w http.ResponseWriter, q *request) error {
	if q.Method != http.MethodPost {
		return methodNotAllowed(q.res, strings.ToLower(q.Method))
	}
	raw, err := jsonBody(q)
	if err != nil {
		return err
	}
	b := &corev1.Binding{}
	if err := json.Unmarshal(raw, b); err != nil || b.Target.Name == "" {
		return badRequest("Binding: want target.name, the node")
	}
	c := q.change()
	c.subresource = ""
	c.next = func(old *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		if old == nil {
			return nil, notFound(c.res, c.name)
		}
		if node, _, _ := unstructured.NestedString(old.Object, "spec", "nodeName"); node != "" {
			return nil, conflict(c.res, c.name, fmt.Errorf("pod %s is already assigned to node %q", c.name, node))
		}
		u := old.DeepCopy()
		return u, unstructured.SetNestedField(u.Object, b.Target.Name, "spec", "nodeName")
	}
	if _, err := s.write(q.Context(), c); err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, success())
	return nil
}

func success() *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}
}

// evictPod answers POST pods/NAME/eviction: a delete, as there are no budgets here.
func (s *Server) evictPod(w http.ResponseWriter, q *request) error {
	if q.Method != http.MethodPost {
		return methodNotAllowed(q.res, strings.ToLower(q.Method))
	}
	raw, err := jsonBody(q)
	if err != nil {
		return err
	}
	var e struct {
		DeleteOptions *metav1.DeleteOptions `json:"deleteOptions"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return badRequest("Eviction: %v", err)
	}
	if e.DeleteOptions == nil {
		e.DeleteOptions = &metav1.DeleteOptions{}
	}
	if _, _, err := s.remove(q.Context(), q.res, q.key(q.name), e.DeleteOptions, q.user.name); err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, success())
	return nil
}
