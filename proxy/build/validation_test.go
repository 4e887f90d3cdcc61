package build

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/pki"
)

// A SPIFFE bundle map holds key sets by trust domain; only keys for x509-svid are authorities.
func TestTrustBundles(t *testing.T) {
	ca, err := pki.NewCA("cluster.local", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key := func(use string) string {
		return fmt.Sprintf(`{"kty": "EC", "use": %q, "x5c": [%q]}`, use, base64.StdEncoding.EncodeToString(ca.Root().Raw))
	}
	for _, test := range []struct{ keys, want string }{
		{key("x509-svid") + "," + key("jwt-svid"), ""},
		{key("jwt-svid"), "custom_validator_config.typed_config.trust_bundles: trust domain cluster.local has no key that is used for x509-svid"},
		{"", "has no key that is used for x509-svid"},
	} {
		config, err := anypb.New(&tlsv3.SPIFFECertValidatorConfig{TrustBundles: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{
			InlineString: `{"trust_domains": {"cluster.local": {"keys": [` + test.keys + `]}}}`}}})
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{}
		_, rules := r.validation(&tlsv3.CertificateValidationContext{CustomValidatorConfig: &corev3.TypedExtensionConfig{Name: "spiffe", TypedConfig: config}}, field.At("validation_context"))
		if got := fmt.Sprint(r.errs.Err()); test.want == "" && got != "<nil>" || !strings.Contains(got, test.want) {
			t.Errorf("keys %s: %s, want %q", test.keys, got, test.want)
		}
		if roots := rules.Domains["cluster.local"]; test.want == "" && (roots == nil || len(roots.Certificates) != 1) {
			t.Errorf("keys %s: roots %+v", test.keys, roots)
		}
	}
}
