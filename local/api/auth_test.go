package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mallamesh/malla/local/api"
)

func as(t *testing.T, cfg *rest.Config, token string) *kubernetes.Clientset {
	t.Helper()
	c := rest.CopyConfig(cfg)
	c.BearerToken = token
	cs, err := kubernetes.NewForConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func TestNobodyIsAnonymous(t *testing.T) {
	s, _ := start(t, api.Options{AdminToken: "secret"})
	cfg := listen(t, s, "")
	for _, path := range []string{"/", "/api", "/apis", "/version", "/healthz", "/openapi/v3", "/api/v1/namespaces", "/api/v1/pods?watch=1", "/api/v1/namespaces/default/pods/x/exec"} {
		for what, header := range map[string]string{"no token": "", "a wrong token": "Bearer wrong", "an empty token": "Bearer ", "another scheme": "Basic c2VjcmV0"} {
			r, _ := http.NewRequest("GET", cfg.Host+path, nil)
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), `"reason":"Unauthorized"`) {
				t.Errorf("%s with %s: %d %s", path, what, resp.StatusCode, body)
			}
		}
	}
	// Without a configured token there is none that fits.
	open, _ := start(t, api.Options{})
	if _, err := as(t, listen(t, open, ""), "").CoreV1().Namespaces().List(within(t), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a server without a token: %v, want Unauthorized", err)
	}
}

func issue(t *testing.T, c kubernetes.Interface, ns, sa string, spec authenticationv1.TokenRequestSpec) string {
	t.Helper()
	tr, err := c.CoreV1().ServiceAccounts(ns).CreateToken(within(t), sa, &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tr.Status.Token
}

func TestServiceAccountsMayAskWhoTheyAre(t *testing.T) {
	now := time.Now()
	clock := &now
	s, c := start(t, api.Options{AdminToken: "secret", Now: func() time.Time { return *clock }})
	cfg := listen(t, s, "secret")
	make1(t, c.CoreV1().ServiceAccounts("istio-system").Create, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "istiod"}})
	plain := as(t, cfg, issue(t, c, "default", "default", authenticationv1.TokenRequestSpec{}))
	istiod := as(t, cfg, issue(t, c, "istio-system", "istiod", authenticationv1.TokenRequestSpec{}))

	who, err := plain.AuthenticationV1().SelfSubjectReviews().Create(within(t), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username != "system:serviceaccount:default:default" {
		t.Errorf("who am I: %+v, %v", who, err)
	}
	if _, err := plain.CoreV1().Secrets("kube-system").List(within(t), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an ordinary account lists secrets: %v, want Forbidden", err)
	}
	if _, err := plain.AuthenticationV1().TokenReviews().Create(within(t), &authenticationv1.TokenReview{}, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an ordinary account reviews tokens: %v, want Forbidden", err)
	}
	if _, err := istiod.CoreV1().Secrets("kube-system").List(within(t), metav1.ListOptions{}); err != nil {
		t.Errorf("the control plane: %v", err)
	}
	*clock = now.Add(2 * time.Hour)
	if _, err := istiod.CoreV1().Secrets("kube-system").List(within(t), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a token after its end: %v, want Unauthorized", err)
	}
}

func TestTokenReview(t *testing.T) {
	s, c := start(t, api.Options{AdminToken: "secret"})
	cfg := listen(t, s, "secret")
	runPod(t, c)
	pod, err := c.CoreV1().Pods("default").Get(within(t), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text := issue(t, c, "default", "default", authenticationv1.TokenRequestSpec{Audiences: []string{"istio-ca"},
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "web", UID: pod.UID}})
	review := func(token string, audiences ...string) authenticationv1.TokenReviewStatus {
		t.Helper()
		r, err := c.AuthenticationV1().TokenReviews().Create(within(t), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}
	st := review(text, "istio-ca", "other")
	if !st.Authenticated || st.User.Username != "system:serviceaccount:default:default" || len(st.Audiences) != 1 || st.Audiences[0] != "istio-ca" ||
		st.User.Extra["authentication.kubernetes.io/pod-name"][0] != "web" {
		t.Errorf("review: %+v", st)
	}
	if st := review(text, "other"); st.Authenticated {
		t.Error("a token for istio-ca is good for another audience")
	}
	if _, err := as(t, cfg, text).AuthenticationV1().SelfSubjectReviews().Create(within(t), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a token for istio-ca is good for the API: %v", err)
	}
	if st := review(text[:len(text)-3]+"abc", "istio-ca"); st.Authenticated {
		t.Error("a token with another signature is good")
	}
	zero := int64(0)
	if err := c.CoreV1().Pods("default").Delete(within(t), "web", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if st := review(text, "istio-ca"); st.Authenticated || !strings.Contains(st.Error, "pod is gone") {
		t.Errorf("the token of a pod that is gone: %+v", st)
	}
}
