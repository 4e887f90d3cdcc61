package api

import (
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mallamesh/malla/base/field"
)

// Errors towards clients are Kubernetes' own Status objects; clients decide by
// their reason, so each helper here stands for one reason.

func badRequest(format string, a ...any) error {
	return apierrors.NewBadRequest(fmt.Sprintf(format, a...))
}

func notFound(res *resource, name string) error {
	return apierrors.NewNotFound(res.gr, name)
}

// notFoundBecause says why there is no such object.
func notFoundBecause(res *resource, name, why string) error {
	err := apierrors.NewNotFound(res.gr, name)
	err.ErrStatus.Message += ": " + why
	return err
}

func noSuchPath(path string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound,
		Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Message: path}}},
	}}
}

func methodNotAllowed(res *resource, verb string) error {
	return apierrors.NewMethodNotSupported(res.gr, verb)
}

func conflict(res *resource, name string, why error) error {
	return apierrors.NewConflict(res.gr, name, why)
}

// errStale is how Kubernetes says that the resourceVersion of a write is not the latest.
var errStale = errors.New("the object has been modified; please apply your changes to the latest version and try again")

func forbidden(gr schema.GroupResource, name string, why error) error {
	return apierrors.NewForbidden(gr, name, why)
}

func unauthorized() error { return apierrors.NewUnauthorized("Unauthorized") }

func expired(version uint64) error {
	return apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d", version))
}

func tooLarge(limit int) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", limit))
}

func unsupportedMedia(have string, want ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %v, got %q", want, have),
	}}
}

// asStatus makes an admitter's error one that clients understand. They show the
// causes of an invalid object, each with its field, and its message only if there
// are no details at all.
func asStatus(res *resource, name string, err error) error {
	var st apierrors.APIStatus
	if errors.As(err, &st) {
		return err
	}
	invalid := &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: err.Error(),
	}}
	var list field.List
	var one *field.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = field.List{one}
	default:
		return invalid
	}
	d := &metav1.StatusDetails{Group: res.Group, Kind: res.Kind.Kind, Name: name}
	for _, e := range list {
		at := e.At.String()
		if at == "" {
			at = "metadata.name" // the object as a whole
		}
		message := field.Error{Msg: e.Msg, Code: e.Code}
		d.Causes = append(d.Causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: at, Message: message.Error()})
	}
	invalid.ErrStatus.Details = d
	return invalid
}

// status returns err as the Status that a client gets.
func status(err error) *metav1.Status {
	if s := apierrors.APIStatus(nil); errors.As(err, &s) {
		st := s.Status()
		return &st
	}
	st := apierrors.NewInternalError(err).ErrStatus
	return &st
}

func writeError(w http.ResponseWriter, err error) {
	st := status(err)
	st.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if st.Code == 0 {
		st.Code = http.StatusInternalServerError
	}
	if st.Reason == metav1.StatusReasonUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="malla"`)
	}
	writeJSON(w, int(st.Code), st)
}
