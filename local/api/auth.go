package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mallamesh/malla/local/api/store"
	"github.com/mallamesh/malla/local/api/token"
)

// A user is who asks.
type user struct {
	name   string
	uid    string
	groups []string
	extra  map[string]authenticationv1.ExtraValue
	admin  bool // may do everything
}

var admin = user{name: "malla:admin", groups: []string{"system:masters", "system:authenticated"}, admin: true}

type userKey struct{}

// withUser marks a request that comes from inside the process.
func withUser(ctx context.Context, u user) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// authenticate finds out who asks.
func (s *Server) authenticate(q *request) error {
	if u, ok := q.Context().Value(userKey{}).(user); ok {
		q.user = u
		return nil
	}
	scheme, text, _ := strings.Cut(q.Header.Get("Authorization"), " ")
	text = strings.TrimSpace(text)
	switch {
	case !strings.EqualFold(scheme, "bearer") || text == "":
		return unauthorized()
	case s.o.AdminToken != "" && sameSecret(text, s.o.AdminToken):
		q.user = admin
		return nil
	}
	u, _, err := s.whose(text, []string{token.Name})
	if err != nil {
		return unauthorized()
	}
	q.user = u
	return nil
}

// sameSecret compares in constant time, whatever the lengths.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// whose returns the identity behind a service account's token, and which of the
// audiences it is for. Account and pod must still be those of the token.
func (s *Server) whose(text string, audiences []string) (user, []string, error) {
	c, err := s.tokens.Check(text)
	if err != nil {
		return user{}, nil, err
	}
	var match []string
	for _, a := range audiences {
		if slices.Contains(c.Audience, a) {
			match = append(match, a)
		}
	}
	if len(match) == 0 {
		return user{}, nil, fmt.Errorf("token is for %v, want %v", c.Audience, audiences)
	}
	b := c.Kubernetes
	sa := s.store.Get(store.Key{Resource: "serviceaccounts", Namespace: b.Namespace, Name: b.ServiceAccount.Name})
	if sa == nil || string(sa.Value.GetUID()) != b.ServiceAccount.UID {
		return user{}, nil, errors.New("the token's service account is gone")
	}
	u := user{name: c.Subject, uid: b.ServiceAccount.UID, groups: []string{
		"system:serviceaccounts", "system:serviceaccounts:" + b.Namespace, "system:authenticated",
	}, extra: map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/credential-id": {"JTI=" + c.ID}}}
	if b.Pod != nil {
		pod := s.store.Get(store.Key{Resource: "pods", Namespace: b.Namespace, Name: b.Pod.Name})
		if pod == nil || string(pod.Value.GetUID()) != b.Pod.UID {
			return user{}, nil, errors.New("the token's pod is gone")
		}
		u.extra["authentication.kubernetes.io/pod-name"] = authenticationv1.ExtraValue{b.Pod.Name}
		u.extra["authentication.kubernetes.io/pod-uid"] = authenticationv1.ExtraValue{b.Pod.UID}
	}
	return u, match, nil
}

func (u user) info() authenticationv1.UserInfo {
	return authenticationv1.UserInfo{Username: u.name, UID: u.uid, Groups: u.groups, Extra: u.extra}
}

// keySecret holds the key that signs tokens, so that they outlive a restart.
var keySecret = store.Key{Resource: "secrets", Namespace: "kube-system", Name: "service-account-signing-key"}

func (s *Server) openTokens() (*token.Issuer, error) {
	if o := s.store.Get(keySecret); o != nil {
		data, _, _ := unstructured.NestedString(o.Value.Object, "data", "key.pem")
		if key, err := decode64(data); err == nil {
			if i, err := token.New(key, s.now); err == nil {
				return i, nil
			}
		}
		s.log.Warn("the key of service account tokens is damaged; a new one is made, older tokens end", "secret", keySecret.String())
	}
	key, err := token.NewKey()
	if err != nil {
		return nil, err
	}
	if err := s.putSecret(keySecret, map[string][]byte{"key.pem": key}); err != nil {
		return nil, err
	}
	return token.New(key, s.now)
}

// Lives of tokens; Kubernetes' lower bound, and a day.
const (
	minTokenLife     = 10 * time.Minute
	defaultTokenLife = time.Hour
	maxTokenLife     = 24 * time.Hour
)

// issueToken answers POST serviceaccounts/NAME/token.
func (s *Server) issueToken(w http.ResponseWriter, q *request) error {
	if q.Method != http.MethodPost {
		return methodNotAllowed(q.res, strings.ToLower(q.Method))
	}
	raw, err := jsonBody(q)
	if err != nil {
		return err
	}
	tr := &authenticationv1.TokenRequest{}
	if err := json.Unmarshal(raw, tr); err != nil {
		return badRequest("TokenRequest: %v", err)
	}
	sa := s.store.Get(q.key(q.name))
	if sa == nil {
		return notFound(q.res, q.name)
	}
	ttl := defaultTokenLife
	if tr.Spec.ExpirationSeconds != nil {
		ttl = time.Duration(*tr.Spec.ExpirationSeconds) * time.Second
	}
	if ttl < minTokenLife {
		return badRequest("spec.expirationSeconds: %d, want 600 (10 minutes) or more", int64(ttl/time.Second))
	}
	ttl = min(ttl, maxTokenLife)
	if len(tr.Spec.Audiences) == 0 {
		tr.Spec.Audiences = []string{token.Name}
	}
	b := token.Bound{Namespace: q.namespace, ServiceAccount: token.Ref{Name: q.name, UID: string(sa.Value.GetUID())}}
	if ref := tr.Spec.BoundObjectRef; ref != nil {
		if b.Pod, err = s.boundPod(q, ref); err != nil {
			return err
		}
	}
	text, expires, err := s.tokens.Issue(b, tr.Spec.Audiences, ttl)
	if err != nil {
		return err
	}
	tr.TypeMeta = metav1.TypeMeta{Kind: "TokenRequest", APIVersion: "authentication.k8s.io/v1"}
	tr.Name, tr.Namespace = q.name, q.namespace
	tr.Status = authenticationv1.TokenRequestStatus{Token: text, ExpirationTimestamp: metav1.NewTime(expires)}
	writeJSON(w, http.StatusCreated, tr)
	return nil
}

func (s *Server) boundPod(q *request, ref *authenticationv1.BoundObjectReference) (*token.Ref, error) {
	if ref.Kind != "Pod" {
		return nil, badRequest("spec.boundObjectRef.kind: %q, want Pod", ref.Kind)
	}
	res := s.kinds.mustKind("", "Pod")
	o := s.store.Get(store.Key{Resource: "pods", Namespace: q.namespace, Name: ref.Name})
	if o == nil {
		return nil, notFound(res, ref.Name)
	}
	if ref.UID != "" && o.Value.GetUID() != ref.UID {
		return nil, conflict(res, ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match that of the pod (%s)", ref.UID, o.Value.GetUID()))
	}
	if sa, _, _ := unstructured.NestedString(o.Value.Object, "spec", "serviceAccountName"); sa != q.name {
		return nil, badRequest("spec.boundObjectRef: pod %s runs as service account %q, not %q", ref.Name, sa, q.name)
	}
	return &token.Ref{Name: ref.Name, UID: string(o.Value.GetUID())}, nil
}

// review answers the reviews, which are questions in the shape of objects.
func (s *Server) review(w http.ResponseWriter, q *request, name string) error {
	if q.Method != http.MethodPost {
		return methodNotAllowed(&resource{gr: schema.GroupResource{Resource: name}}, strings.ToLower(q.Method))
	}
	raw, err := jsonBody(q)
	if err != nil {
		return err
	}
	var answer any
	switch name {
	case "tokenreviews":
		t := &authenticationv1.TokenReview{}
		err, answer = json.Unmarshal(raw, t), t
		if err == nil {
			s.reviewToken(t)
		}
	case "selfsubjectreviews":
		t := &authenticationv1.SelfSubjectReview{}
		err, answer = json.Unmarshal(raw, t), t
		t.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectReview", APIVersion: "authentication.k8s.io/v1"}
		t.Status.UserInfo = q.user.info()
	case "selfsubjectaccessreviews":
		t := &authorizationv1.SelfSubjectAccessReview{}
		err, answer = json.Unmarshal(raw, t), t
		t.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"}
		t.Status = q.user.reviewAccess(t.Spec)
	}
	if err != nil {
		return badRequest("%s: %v", name, err)
	}
	writeJSON(w, http.StatusCreated, answer)
	return nil
}

func (s *Server) reviewToken(t *authenticationv1.TokenReview) {
	t.TypeMeta = metav1.TypeMeta{Kind: "TokenReview", APIVersion: "authentication.k8s.io/v1"}
	audiences := t.Spec.Audiences
	if len(audiences) == 0 {
		audiences = []string{token.Name}
	}
	u, match, err := s.whose(t.Spec.Token, audiences)
	if err != nil {
		t.Status = authenticationv1.TokenReviewStatus{Error: err.Error()}
		return
	}
	t.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: u.info(), Audiences: match}
}
