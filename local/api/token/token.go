// Package token signs and checks the tokens of service accounts.
//
// They are those of a cluster: JSON Web Tokens (ES256) with an audience, a short
// life, and the names of namespace, account and pod, so that programs that read
// their own token work unchanged. Whether account and pod still exist is for the
// caller to check.
package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Name is the issuer that tokens name, and the audience of the API server itself.
const Name = "https://kubernetes.default.svc.cluster.local"

// An Issuer signs and checks with one key. It is immutable.
type Issuer struct {
	key *ecdsa.PrivateKey
	id  string
	now func() time.Time
}

// Claims are what a token says.
type Claims struct {
	jwt.RegisteredClaims
	Kubernetes Bound `json:"kubernetes.io"`
}

// Bound is whose token it is.
type Bound struct {
	Namespace      string `json:"namespace"`
	ServiceAccount Ref    `json:"serviceaccount"`
	Pod            *Ref   `json:"pod,omitempty"`
	Node           *Ref   `json:"node,omitempty"`
}

// Ref names an object and says which one of that name.
type Ref struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// NewKey makes a key, in PEM.
func NewKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// New returns the issuer with the key (PEM, as from NewKey).
func New(keyPEM []byte, now func() time.Time) (*Issuer, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("token key: no PEM block")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("token key: want ECDSA P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	return &Issuer{key: key, id: base64.RawURLEncoding.EncodeToString(sum[:]), now: now}, nil
}

// Issue signs a token that lives for ttl.
func (i *Issuer) Issue(b Bound, audiences []string, ttl time.Duration) (string, time.Time, error) {
	now := i.now()
	expires := now.Add(ttl).Truncate(time.Second)
	t := jwt.NewWithClaims(jwt.SigningMethodES256, &Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    Name,
			Subject:   "system:serviceaccount:" + b.Namespace + ":" + b.ServiceAccount.Name,
			Audience:  audiences,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(expires),
			ID:        uuid.NewString(),
		},
		Kubernetes: b,
	})
	t.Header["kid"] = i.id
	text, err := t.SignedString(i.key)
	return text, expires, err
}

// maxLen bounds tokens before anything is decoded.
const maxLen = 16 << 10

// Check verifies signature, issuer and life of a token.
func (i *Issuer) Check(text string) (*Claims, error) {
	if len(text) > maxLen {
		return nil, errors.New("token is too long")
	}
	c := &Claims{}
	_, err := jwt.ParseWithClaims(text, c, func(*jwt.Token) (any, error) { return &i.key.PublicKey, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(Name), jwt.WithExpirationRequired(), jwt.WithTimeFunc(i.now))
	if err != nil {
		return nil, err
	}
	if c.Kubernetes.Namespace == "" || c.Kubernetes.ServiceAccount.Name == "" ||
		c.Subject != "system:serviceaccount:"+c.Kubernetes.Namespace+":"+c.Kubernetes.ServiceAccount.Name {
		return nil, errors.New("token names no service account")
	}
	return c, nil
}
