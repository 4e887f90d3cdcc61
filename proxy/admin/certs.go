package admin

import (
	"crypto/x509"
	"math"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// details describes a certificate as Envoy does.
func (s *Server) details(c *x509.Certificate, path string) *adminv3.CertificateDetails {
	d := &adminv3.CertificateDetails{
		Path: path, SerialNumber: c.SerialNumber.Text(16), DaysUntilExpiration: days(c.NotAfter.Sub(s.Now())),
		ValidFrom: timestamppb.New(c.NotBefore), ExpirationTime: timestamppb.New(c.NotAfter),
	}
	add := func(name *adminv3.SubjectAlternateName) { d.SubjectAltNames = append(d.SubjectAltNames, name) }
	for _, u := range c.URIs {
		add(&adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Uri{Uri: u.String()}})
	}
	for _, n := range c.DNSNames {
		add(&adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Dns{Dns: n}})
	}
	for _, ip := range c.IPAddresses {
		add(&adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_IpAddress{IpAddress: ip.String()}})
	}
	return d
}

func days(d time.Duration) uint64 {
	return uint64(max(0, math.Floor(d.Hours()/24)))
}
