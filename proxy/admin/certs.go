package admin

import (
	"crypto/x509"
	"encoding/hex"
	"math"
	"net/http"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	malltls "github.com/mallamesh/malla/proxy/tls"
)

// certs serves the certificates in use, by what uses them: two clusters with the same one have an entry each.
func (s *Server) certs(w http.ResponseWriter, _ *http.Request) {
	out := &adminv3.Certificates{}
	for _, c := range s.Store.Contexts() {
		if entry, ready := s.context(c); ready {
			out.Certificates = append(out.Certificates, entry)
		}
	}
	write(w, out, true)
}

// context describes what a context shows and trusts; a context whose secrets have not come is not there yet.
func (s *Server) context(c *malltls.Common) (*adminv3.Certificate, bool) {
	entry := &adminv3.Certificate{}
	for _, id := range c.Identities {
		cert := id.Certificate()
		if cert == nil {
			return nil, false
		}
		d := s.details(cert.Leaf, id.Place())
		if from, until := id.Staple(); !until.IsZero() {
			d.OcspDetails = &adminv3.CertificateDetails_OcspDetails{ValidFrom: timestamppb.New(from), Expiration: timestamppb.New(until)}
		}
		entry.CertChain = append(entry.CertChain, d)
	}
	if c.Trust == nil {
		return entry, true
	}
	b := c.Trust.Bundle()
	if b == nil {
		return nil, false
	}
	for _, root := range b.Certificates {
		entry.CaCert = append(entry.CaCert, s.details(root, c.Trust.Place()))
	}
	return entry, true
}

// details describes a certificate as Envoy does.
func (s *Server) details(c *x509.Certificate, path string) *adminv3.CertificateDetails {
	d := &adminv3.CertificateDetails{
		Path: path, SerialNumber: hex.EncodeToString(c.SerialNumber.Bytes()), DaysUntilExpiration: days(c.NotAfter.Sub(s.Now())),
		ValidFrom: timestamppb.New(c.NotBefore), ExpirationTime: timestamppb.New(c.NotAfter),
	}
	add := func(name *adminv3.SubjectAlternateName) { d.SubjectAltNames = append(d.SubjectAltNames, name) }
	for _, n := range c.DNSNames {
		add(&adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Dns{Dns: n}})
	}
	for _, u := range c.URIs {
		add(&adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Uri{Uri: u.String()}})
	}
	for _, ip := range c.IPAddresses {
		add(&adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_IpAddress{IpAddress: ip.String()}})
	}
	return d
}

func days(d time.Duration) uint64 {
	return uint64(max(0, math.Floor(d.Hours()/24)))
}
