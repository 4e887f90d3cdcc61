package api_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
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

func TestRightsOfServiceAccounts(t *testing.T) {
	now := time.Now()
	var later atomic.Int64 // the server's own goroutines look at the clock, too
	s, c := start(t, api.Options{AdminToken: "secret", Now: func() time.Time { return now.Add(time.Duration(later.Load())) }})
	cfg := listen(t, s, "secret")
	make1(t, c.CoreV1().ServiceAccounts("istio-system").Create, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "istiod"}})
	plain := as(t, cfg, issue(t, c, "default", "default", authenticationv1.TokenRequestSpec{}))
	istiod := as(t, cfg, issue(t, c, "istio-system", "istiod", authenticationv1.TokenRequestSpec{}))

	who, err := plain.AuthenticationV1().SelfSubjectReviews().Create(within(t), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || who.Status.UserInfo.Username != "system:serviceaccount:default:default" {
		t.Errorf("who am I: %+v, %v", who, err)
	}
	if _, _, err := plain.Discovery().ServerGroupsAndResources(); err != nil {
		t.Errorf("which kinds there are: %v", err)
	}

	list, get := metav1.ListOptions{}, metav1.GetOptions{}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "x"}}
	for _, test := range []struct {
		what           string
		do             func(c *kubernetes.Clientset) error
		plain, control bool
	}{
		{"list secrets of kube-system", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Secrets("kube-system").List(within(t), list)
			return err
		}, false, true},
		{"list all secrets", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Secrets("").List(within(t), list)
			return err
		}, false, true},
		{"list secrets of istio-system", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Secrets("istio-system").List(within(t), list)
			return err
		}, false, true},
		{"create a secret in istio-system", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Secrets("istio-system").Create(within(t), secret, metav1.CreateOptions{DryRun: []string{"All"}})
			return err
		}, false, true},
		{"create a secret in default", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Secrets("default").Create(within(t), secret, metav1.CreateOptions{DryRun: []string{"All"}})
			return err
		}, false, false},
		{"list pods of its namespace", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Pods("default").List(within(t), list)
			return err
		}, false, true},
		{"get its account", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ServiceAccounts("default").Get(within(t), "default", get)
			return err
		}, false, true},
		{"create a config map", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ConfigMaps("default").Create(within(t), configMap("x", "1"), metav1.CreateOptions{DryRun: []string{"All"}})
			return err
		}, false, true},
		{"delete a config map", func(c *kubernetes.Clientset) error {
			return c.CoreV1().ConfigMaps("default").Delete(within(t), "kube-root-ca.crt", metav1.DeleteOptions{DryRun: []string{"All"}})
		}, false, false},
		{"create a namespace", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().Namespaces().Create(within(t), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{DryRun: []string{"All"}})
			return err
		}, false, false},
		{"issue a token", func(c *kubernetes.Clientset) error {
			_, err := c.CoreV1().ServiceAccounts("istio-system").CreateToken(within(t), "istiod", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}, false, false},
		{"review a token", func(c *kubernetes.Clientset) error {
			_, err := c.AuthenticationV1().TokenReviews().Create(within(t), &authenticationv1.TokenReview{}, metav1.CreateOptions{})
			return err
		}, false, true},
	} {
		for who, want := range map[string]bool{"an ordinary account": test.plain, "the control plane": test.control} {
			c := plain
			if who == "the control plane" {
				c = istiod
			}
			if err := test.do(c); want && err != nil || !want && !apierrors.IsForbidden(err) {
				t.Errorf("%s, %s: %v, want allowed: %v", who, test.what, err, want)
			}
		}
	}
	_, err = plain.CoreV1().Secrets("kube-system").List(within(t), list)
	const words = `secrets is forbidden: User "system:serviceaccount:default:default" cannot list resource "secrets" in API group "" in the namespace "kube-system"`
	if err == nil || err.Error() != words {
		t.Errorf("got  %v\nwant %s", err, words)
	}
	for resource, want := range map[string]bool{"secrets": true, "pods": true} {
		r, err := istiod.AuthorizationV1().SelfSubjectAccessReviews().Create(within(t), &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Resource: resource, Namespace: "default"}}}, metav1.CreateOptions{})
		if err != nil || r.Status.Allowed != want {
			t.Errorf("can the control plane list %s: %+v, %v, want %v", resource, r.Status, err, want)
		}
	}
	later.Store(int64(2 * time.Hour))
	if _, err := istiod.CoreV1().Pods("default").List(within(t), list); !apierrors.IsUnauthorized(err) {
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
