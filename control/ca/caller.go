package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mallamesh/malla/pki"
)

// Audience is what a token must be made for to count here (Istio's).
const Audience = "istio-ca"

// reviewTimeout bounds how long the API server may take to review a token.
const reviewTimeout = 5 * time.Second

// A Reviewer asks somebody who knows whose token it is: "namespace/account".
type Reviewer interface {
	Review(ctx context.Context, token string) (namespace, account string, err error)
}

// ByClientCertificate returns the identity of the stream's verified client
// certificate; errNone if the connection is plain or the client showed none.
func ByClientCertificate(ctx context.Context) (pki.ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return pki.ID{}, errNone
	}
	leaf := clientCertificate(p.AuthInfo)
	if leaf == nil {
		return pki.ID{}, errNone
	}
	return pki.IDOf(leaf)
}

// clientCertificate returns the verified certificate of a connection, or nil.
func clientCertificate(info credentials.AuthInfo) *x509.Certificate {
	t, ok := info.(credentials.TLSInfo)
	if !ok || len(t.State.VerifiedChains) == 0 || len(t.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return t.State.VerifiedChains[0][0]
}

var (
	errNone    = errors.New("no client certificate")
	errNoToken = errors.New("no token: a certificate is had, and renewed, with a service account's token for the audience " + Audience)
)

// caller says who is calling: by a bearer token in the metadata, reviewed by r. A
// client certificate does not count. (Istiod takes it, so that who once got hold of
// a key can renew its certificate for ever, also after the account was deleted.)
func caller(ctx context.Context, r Reviewer, trustDomain string) (pki.ID, error) {
	token := bearer(ctx)
	if token == "" {
		return pki.ID{}, errNoToken
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	ns, account, err := r.Review(ctx, token)
	if err != nil {
		return pki.ID{}, fmt.Errorf("token: %w", err)
	}
	return pki.ID{TrustDomain: trustDomain, Namespace: ns, Account: account}, nil
}

func bearer(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		if token, ok := strings.CutPrefix(v, "Bearer "); ok {
			return strings.TrimSpace(token)
		}
	}
	return ""
}

// TokenReviewer asks the API server by TokenReview.
type TokenReviewer struct{ Client kubernetes.Interface }

// Review returns the service account that the token was made for.
func (t TokenReviewer) Review(ctx context.Context, token string) (namespace, account string, err error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}}}
	got, err := t.Client.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return "", "", fmt.Errorf("review: %w", err)
	}
	if got.Status.Error != "" || !got.Status.Authenticated {
		return "", "", fmt.Errorf("not accepted: %s", orUnknown(got.Status.Error))
	}
	// A server that knows nothing of audiences leaves the question out, and means its own
	// (TokenReviewStatus.audiences): every pod has such a token.
	if !slices.Contains(got.Status.Audiences, Audience) {
		return "", "", fmt.Errorf("is for the audiences %q, want %s among them", got.Status.Audiences, Audience)
	}
	// system:serviceaccount:<namespace>:<account>
	parts := strings.Split(got.Status.User.Username, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" {
		return "", "", fmt.Errorf("belongs to %q, want a service account", got.Status.User.Username)
	}
	return parts[2], parts[3], nil
}

func orUnknown(s string) string {
	if s == "" {
		return "no reason given"
	}
	return s
}
