package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mallamesh/malla/pki"
)

// Roots is the mesh's trust: certificates of a file that may change, and those
// that came with our own chain. Besides them workloads, but not the control plane, may be vouched for by
// anchors: of a file that need not be there, and some that stay. Its methods may be called from any goroutine.
type Roots struct {
	path    string
	changed func([]*x509.Certificate)
	anchors string
	more    []*x509.Certificate

	mu       sync.Mutex
	raw      []byte              // guarded by mu: the file as it was read last
	file     []*x509.Certificate // guarded by mu
	others   []*x509.Certificate // guarded by mu
	rawMore  []byte              // guarded by mu: the file of anchors as it was read last
	fileMore []*x509.Certificate // guarded by mu
}

// NewRoots returns the trust in a PEM file (none if path is empty). changed is
// called with all certificates, never with none, when there are others than before.
func NewRoots(path string, changed func([]*x509.Certificate)) *Roots {
	return &Roots{path: path, changed: changed}
}

// Besides adds anchors: those of a PEM file (none if path is empty), and these. It returns r, which must not be in use yet.
func (r *Roots) Besides(path string, more []*x509.Certificate) *Roots {
	r.anchors, r.more = path, more
	return r
}

// FromCA trusts the roots that came with our newest certificate, in place of those
// that came before: a root that was taken out of service must not stay for ever.
func (r *Roots) FromCA(certs []*x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.EqualFunc(r.others, certs, (*x509.Certificate).Equal) {
		return
	}
	before := r.all()
	r.others = slices.Clone(certs)
	if !slices.EqualFunc(before, r.all(), (*x509.Certificate).Equal) {
		r.tell()
	}
}

// Load reads the files again. A file that cannot be read or parsed changes nothing; that of anchors may be gone.
func (r *Roots) Load() error {
	if r.path == "" {
		return nil
	}
	raw, err := os.ReadFile(r.path)
	if err != nil {
		return fmt.Errorf("read roots: %w", err)
	}
	rawMore, err := r.readAnchors()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Equal(raw, r.raw) && bytes.Equal(rawMore, r.rawMore) {
		return nil
	}
	certs, err := pki.DecodeCertificates(raw)
	if err != nil {
		return fmt.Errorf("read roots %s: %w", r.path, err)
	}
	var more []*x509.Certificate
	if len(rawMore) > 0 {
		if more, err = pki.DecodeCertificates(rawMore); err != nil {
			return fmt.Errorf("read trust anchors %s: %w", r.anchors, err)
		}
	}
	r.raw, r.file, r.rawMore, r.fileMore = raw, certs, rawMore, more
	r.tell()
	return nil
}

func (r *Roots) readAnchors() ([]byte, error) {
	if r.anchors == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(r.anchors)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read trust anchors: %w", err)
	}
	return raw, nil
}

// All returns the roots of now, without anchors.
func (r *Roots) All() []*x509.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all()
}

// all returns the roots without doubles. The caller holds mu.
func (r *Roots) all() []*x509.Certificate {
	out := slices.Clone(r.file)
	for _, c := range r.others {
		if !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

// tell says whom workloads may be vouched for by. The caller holds mu.
func (r *Roots) tell() {
	all := r.all()
	if r.changed == nil || len(all) == 0 {
		return
	}
	for _, c := range slices.Concat(r.fileMore, r.more) {
		if !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	r.changed(all)
}

// rootsInterval is how often the file is looked at. A kubelet takes a minute to
// bring a changed ConfigMap into a pod, so looking is as good as being told.
const rootsInterval = 5 * time.Second

// Watch reads the file until ctx ends; soon and often as long as it is not there.
func (r *Roots) Watch(ctx context.Context) {
	for failures := 0; ; {
		wait := rootsInterval
		if err := r.Load(); err != nil && len(r.All()) == 0 {
			wait = min(rootsInterval, retryAfter(failures, 0, maxRetry))
			failures++
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// ClientTLS returns the configuration for connections to the control plane: the
// server must prove to be serverName against the roots of that moment, and is shown
// what certificate returns, if that is one and has not ended.
func (r *Roots) ClientTLS(serverName string, certificate func() *tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         serverName,
		NextProtos:         []string{"h2"},
		InsecureSkipVerify: true, // VerifyConnection does it: the roots change while the configuration does not
		VerifyConnection: func(s tls.ConnectionState) error {
			return verifyServer(s, serverName, r.All())
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if certificate != nil {
				// One that has ended proves nothing, and the server would refuse the
				// connection for it (tls.VerifyClientCertIfGiven).
				if c := certificate(); c != nil && (c.Leaf == nil || time.Now().Before(c.Leaf.NotAfter)) {
					return c, nil
				}
			}
			return &tls.Certificate{}, nil
		},
	}
}

func verifyServer(s tls.ConnectionState, name string, roots []*x509.Certificate) error {
	if len(roots) == 0 {
		return fmt.Errorf("no root certificate to check %s against", name)
	}
	o := x509.VerifyOptions{DNSName: name, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	for _, c := range roots {
		o.Roots.AddCert(c)
	}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}
