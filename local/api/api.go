// Package api is a small Kubernetes API server that keeps its objects in memory
// and in one crash-safe file.
//
// It promises what Kubernetes' own clients rely on: discovery, create, get, list,
// watch, update, delete, every kind of patch, server-side apply, optimistic
// concurrency, status and scale, owner references and finalizers, tables for
// people, logs and exec, service-account tokens. So client-go's informers and
// kubectl's commands work on a laptop, and the control plane has one source.
//
// It is not a Kubernetes distribution. There is no RBAC: the administrator's
// token and the control plane's service account may do everything, every other
// identity may only ask who it is. There are no API groups besides those of the
// table in config/kind, no aggregation, no webhooks over the wire (admission is
// by [Admitter]), and answers are JSON, whatever encodings a client offers.
//
// Objects live in package store, which orders all changes; journal writes them
// down; table draws them; token signs and checks identities; stream carries exec.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/local/api/stream"
)

// Options say how a server is made. The zero value is a server without a file,
// without pods and with a token that nobody knows: reachable by [Server.Config] only.
type Options struct {
	// StateFile keeps the objects over restarts; "" is memory only.
	StateFile string
	// Admit is asked in order about every write that people or programs make.
	Admit []Admitter
	// Pods runs what /log and /exec ask for; [Server.SetPods] can give it later.
	Pods PodBackend
	// Log is where the server tells what its callers cannot see; nil discards.
	Log *slog.Logger
	// TLS, if set, wraps every TCP listener given to [Server.Serve]. Unix sockets stay plain.
	TLS *tls.Config
	// RootCA (PEM) is what ConfigMap kube-root-ca.crt gives to pods.
	RootCA []byte
	// AdminToken is the bearer token that may do everything.
	AdminToken string
	// IPv4Only says that pods have no IPv6 addresses, so that services get none.
	IPv4Only bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// An Operation is what a request wants to do with an object.
type Operation string

const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
	Delete Operation = "DELETE"
)

// A Request is a write on its way in.
type Request struct {
	Operation   Operation
	Kind        *kind.Kind
	Subresource string // "", "status" or "scale"
	Namespace   string
	Name        string                     // empty while generateName waits for its suffix
	Old         *unstructured.Unstructured // nil on Create; never written
	Object      *unstructured.Unstructured // nil on Delete; the admitter may change it
	User        string
	Manager     string // fieldManager, as "kubectl-client-side-apply"
	DryRun      bool
}

// An Admitter changes or refuses objects before they are stored. It is called
// without locks, so it may read the server through its own client, and more
// than once for one request if the object changes meanwhile.
type Admitter interface {
	// Admit returns what people should know about the object (told with the write, and
	// once more when they next look at it), or an error that refuses it. An error that
	// is an apimachinery APIStatus goes to the client as it is, others as 422 Invalid.
	Admit(ctx context.Context, r *Request) (warnings []string, err error)
}

// AdmitFunc makes an Admitter of a function.
type AdmitFunc func(context.Context, *Request) ([]string, error)

// Admit calls f.
func (f AdmitFunc) Admit(ctx context.Context, r *Request) ([]string, error) { return f(ctx, r) }

// A PodBackend is where pods run.
type PodBackend interface {
	// Logs streams a container's log until it ends or, with o.Follow, until ctx does.
	Logs(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error)
	// Exec runs a command in a container and returns when it has ended. A command that ended
	// with a status other than 0 is an error with a method ExitStatus() int (see [ExitError]).
	Exec(ctx context.Context, namespace, pod string, o *corev1.PodExecOptions, s Streams) error
}

// Streams are the ends of one exec. Those that were not asked for are nil.
type Streams = stream.Streams

// Size is a terminal's.
type Size = stream.Size

// ExitError is the end of a command with a status other than 0.
type ExitError = stream.ExitError

// errNoPods answers logs and exec before SetPods.
var errNoPods = errors.New("no pods run here yet")
