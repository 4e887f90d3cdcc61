package ca

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// A token counts only if the API server says that it is for us: that it is a service
// account's is no proof, since every pod has one for the API server.
func TestTokensOfOthersDoNotCount(t *testing.T) {
	const user = "system:serviceaccount:prod:web"
	for _, test := range []struct {
		what   string
		status authenticationv1.TokenReviewStatus
		want   string
	}{
		{"for us", authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{Audience}, User: authenticationv1.UserInfo{Username: user}}, "prod/web"},
		{"of a server that does not look at audiences", authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: user}}, ""},
		{"for somebody else", authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"vault"}, User: authenticationv1.UserInfo{Username: user}}, ""},
		{"not accepted", authenticationv1.TokenReviewStatus{Audiences: []string{Audience}, User: authenticationv1.UserInfo{Username: user}}, ""},
		{"of a person", authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{Audience}, User: authenticationv1.UserInfo{Username: "joe"}}, ""},
	} {
		client := fake.NewClientset()
		client.PrependReactor("create", "tokenreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, &authenticationv1.TokenReview{Status: test.status}, nil
		})
		ns, account, err := TokenReviewer{Client: client}.Review(t.Context(), "t")
		got := ""
		if err == nil {
			got = ns + "/" + account
		}
		if got != test.want {
			t.Errorf("a token %s: %q (%v), want %q", test.what, got, err, test.want)
		}
	}
}
