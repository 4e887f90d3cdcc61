package pods

import (
	"context"
	"fmt"
	"path"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	tokenMode   = 0o600
	oldToken    = 24 * time.Hour // the kubelet renews then at the latest
	renewAgain  = 10 * time.Second
	noTokenYet  = time.Hour // how long to sleep without one
	renewedPart = 0.8       // of a token's life has passed when it is renewed
)

// tokens are the pod's tokens for its service account. Volumes are read often;
// only age is a reason for a new token.
type tokens struct {
	mu   sync.Mutex
	have map[tokenKey]token // guarded by mu
}

type tokenKey struct {
	audience string
	seconds  int64
}

type token struct {
	text  string
	renew time.Time
}

// untilRenewal is how long all tokens stay good.
func (t *tokens) untilRenewal() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	least := noTokenYet
	for _, k := range t.have {
		least = min(least, time.Until(k.renew))
	}
	return max(least, renewAgain) // also after a renewal that was refused
}

// addToken adds a token of the pod's account to the files of a volume.
func (w *worker) addToken(ctx context.Context, f files, audience string, life *int64, to string) error {
	key := tokenKey{audience: audience}
	if life != nil {
		key.seconds = *life
	}
	w.tokens.mu.Lock()
	defer w.tokens.mu.Unlock()
	have, ok := w.tokens.have[key]
	if !ok || time.Until(have.renew) <= 0 {
		fresh, err := w.newToken(ctx, audience, life)
		if err != nil {
			return err
		}
		if have = fresh; w.tokens.have == nil {
			w.tokens.have = map[tokenKey]token{}
		}
		w.tokens.have[key] = have
	}
	f[path.Clean(to)] = file{[]byte(have.text), tokenMode}
	return nil
}

// newToken asks the API server.
func (w *worker) newToken(ctx context.Context, audience string, life *int64) (token, error) {
	p := w.object()
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: life,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.Name, UID: p.UID}}}
	if audience != "" {
		req.Spec.Audiences = []string{audience}
	}
	now := time.Now()
	got, err := w.k.Client.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, account(p), req, metav1.CreateOptions{})
	if err != nil {
		return token{}, fmt.Errorf("token for service account %q: %w", account(p), err)
	}
	lives := min(time.Duration(float64(got.Status.ExpirationTimestamp.Sub(now))*renewedPart), oldToken)
	return token{got.Status.Token, now.Add(lives)}, nil
}

// account is the pod's service account.
func account(p *corev1.Pod) string {
	if p.Spec.ServiceAccountName != "" {
		return p.Spec.ServiceAccountName
	}
	return "default"
}
