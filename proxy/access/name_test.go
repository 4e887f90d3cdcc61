package access

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

// What the real Envoy says of such a name is compared in test/envoy (hcm/xfcc_odd).
func TestDistinguishedName(t *testing.T) {
	for _, test := range []struct {
		name pkix.Name
		want string
	}{
		{pkix.Name{}, ""},
		{pkix.Name{Country: []string{"CH"}, Organization: []string{"malla"}, CommonName: "a"}, "CN=a,O=malla,C=CH"},
		{pkix.Name{CommonName: "a\"\r\nX: y,\\"}, `CN=a\"\0D\0AX: y\,\\`},
		{pkix.Name{CommonName: " # "}, `CN=\ #\ `},
		{pkix.Name{CommonName: "#\u00e9"}, `CN=\#\C3\A9`},
		{pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 3}, Value: "x"}}}, "1.2.3=#130178"},
		{pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: 7}}}, "CN=#020107"},
		{pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: asn1.RawValue{Tag: asn1.TagBMPString, Bytes: []byte{0, 'a', 0, '\n'}}}}}, `CN=a\0A`},
	} {
		der, err := asn1.Marshal(test.name.ToRDNSequence())
		if err != nil {
			t.Fatal(err)
		}
		if got := DistinguishedName(der); got != test.want {
			t.Errorf("%v is written as %q, want %q", test.name, got, test.want)
		}
	}
}

func FuzzDistinguishedName(f *testing.F) {
	der, _ := asn1.Marshal(pkix.Name{CommonName: "a\"\n", Organization: []string{"b", "c"}}.ToRDNSequence())
	f.Add(der)
	f.Fuzz(func(t *testing.T, der []byte) {
		got := DistinguishedName(der)
		for i := range len(got) {
			if c := got[i]; c < 0x20 || c >= 0x7f || c == '"' && (i == 0 || got[i-1] != '\\') {
				t.Fatalf("%x is written as %q", der, got)
			}
		}
		if strings.HasSuffix(strings.ReplaceAll(got, `\\`, ""), `\`) {
			t.Fatalf("%x ends in an escape of nothing: %q", der, got)
		}
	})
}
