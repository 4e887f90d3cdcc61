package build

import (
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/base/file"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

const maxData = 4 << 20 // of a file that configuration names

// MaxConfig is how large a bootstrap may be.
const MaxConfig = xdsclient.MaxFile

// data reads what a data source stands for, nil if it is not set.
func (r *reader) data(d *corev3.DataSource, at *field.Path) []byte {
	switch d.GetSpecifier().(type) {
	case *corev3.DataSource_InlineBytes:
		return d.GetInlineBytes()
	case *corev3.DataSource_InlineString:
		return []byte(d.GetInlineString())
	case *corev3.DataSource_EnvironmentVariable:
		name := d.GetEnvironmentVariable()
		v, ok := os.LookupEnv(name)
		if !ok {
			r.errs.Addf(at.Child("environment_variable"), "%s is not set", name)
		}
		return []byte(v)
	case *corev3.DataSource_Filename:
		r.files = append(r.files, d.GetFilename())
		text, err := readFile(d.GetFilename())
		if err != nil {
			r.errs.Addf(at.Child("filename"), "%v", err)
		}
		return text
	}
	return nil
}

// rootFiles are where systems keep the certificates of the world's CAs.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// SystemRoots reads the first of them, or what SSL_CERT_FILE names.
func SystemRoots() ([]byte, error) {
	files := rootFiles
	if f := os.Getenv("SSL_CERT_FILE"); f != "" {
		files = []string{f}
	}
	for _, f := range files {
		if text, err := readFile(f); err == nil {
			return text, nil
		}
	}
	return nil, fmt.Errorf("found none of %s", strings.Join(files, ", "))
}

func readFile(path string) ([]byte, error) {
	return file.Read(path, maxData)
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

// pemOf writes certificates in PEM.
func pemOf(der ...[]byte) []byte {
	var out []byte
	for _, d := range der {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d})...)
	}
	return out
}
