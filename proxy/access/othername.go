package access

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"
)

// oidSubjectAltName is the extension with a certificate's names (RFC 5280, section 4.2.1.6).
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// otherNames lists the names of a certificate that are of none of the usual kinds (otherName), such as a user's principal
// name, as far as they are text. What cannot be read is no name.
func otherNames(c *x509.Certificate) string {
	var names []string
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		var all asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &all); err != nil {
			return ""
		}
		for rest := all.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return strings.Join(names, ",")
			}
			if name.Class == asn1.ClassContextSpecific && name.Tag == 0 {
				if text, ok := otherName(name.Bytes); ok {
					names = append(names, text)
				}
			}
		}
	}
	return strings.Join(names, ",")
}

// otherName reads the value of an otherName: a type, and [0] with a string.
func otherName(b []byte) (string, bool) {
	var kind asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(b, &kind)
	if err != nil {
		return "", false
	}
	var outer, value asn1.RawValue
	if _, err := asn1.Unmarshal(rest, &outer); err != nil || outer.Class != asn1.ClassContextSpecific || outer.Tag != 0 {
		return "", false
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &value); err != nil || value.Class != asn1.ClassUniversal {
		return "", false
	}
	switch value.Tag {
	case asn1.TagUTF8String, asn1.TagIA5String, asn1.TagPrintableString, asn1.TagT61String, asn1.TagOctetString:
		return string(value.Bytes), true
	}
	return "", false
}
