package access

import (
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The names of certificates stand here: who may have written them is not known, and they go into header fields, into metrics and
// into lines of logs.

// DistinguishedName writes a name that a certificate has (its RawSubject, say) as RFC 2253 wants it, in OpenSSL's hand and so in
// Envoy's: the last part first, what means something escaped, and control characters and what is not ASCII as the hex of their
// bytes. What is no name is empty.
func DistinguishedName(der []byte) string {
	var parts []rdnSET
	if rest, err := asn1.Unmarshal(der, &parts); err != nil || len(rest) > 0 {
		return ""
	}
	var out []byte
	for i := len(parts) - 1; i >= 0; i-- {
		if i < len(parts)-1 {
			out = append(out, ',')
		}
		for j := len(parts[i]) - 1; j >= 0; j-- {
			if j < len(parts[i])-1 {
				out = append(out, '+')
			}
			out = parts[i][j].append(out)
		}
	}
	return string(out)
}

// A rdnSET is a part of a name, as a rule of one attribute. (encoding/asn1 goes by the end of the type's name.)
type rdnSET []attribute

type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributeNames are OpenSSL's short names of types. A value of another type is written as the hex of its encoding.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.13": "description", "2.5.4.17": "postalCode", "2.5.4.41": "name",
	"2.5.4.42": "GN", "2.5.4.43": "initials", "2.5.4.44": "generationQualifier", "2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym",
	"1.2.840.113549.1.9.1": "emailAddress", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}

func (a *attribute) append(out []byte) []byte {
	id := a.Type.String()
	name, known := attributeNames[id]
	if !known {
		name = id
	}
	out = append(append(out, name...), '=')
	text, ok := textOf(a.Value)
	if !known || !ok {
		return hex.AppendEncode(append(out, '#'), a.Value.FullBytes)
	}
	return appendEscaped(out, text)
}

// textOf returns the text of a string of ASN.1, as UTF-8; ok is false for what is none.
func textOf(v asn1.RawValue) (text string, ok bool) {
	b := v.Bytes
	switch {
	case v.Class != asn1.ClassUniversal || v.IsCompound:
		return "", false
	case v.Tag == asn1.TagUTF8String:
		return string(b), utf8.Valid(b)
	case v.Tag == asn1.TagBMPString && len(b)%2 == 0:
		var units []uint16
		for ; len(b) > 0; b = b[2:] {
			units = append(units, uint16(b[0])<<8|uint16(b[1]))
		}
		return string(utf16.Decode(units)), true
	case v.Tag == asn1.TagPrintableString, v.Tag == asn1.TagIA5String, v.Tag == asn1.TagT61String, v.Tag == asn1.TagNumericString, v.Tag == tagVisibleString:
		var out strings.Builder // a byte is a character
		for _, c := range b {
			out.WriteRune(rune(c))
		}
		return out.String(), true
	}
	return "", false
}

const tagVisibleString = 26

// appendEscaped escapes a value (RFC 2253, section 2.4).
func appendEscaped(out []byte, text string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		switch c := text[i]; {
		case c < 0x20, c >= 0x7f:
			out = append(out, '\\', digits[c>>4], digits[c&15])
		case strings.IndexByte(`,+"\<>;`, c) >= 0, c == '#' && i == 0, c == ' ' && (i == 0 || i == len(text)-1):
			out = append(out, '\\', c)
		default:
			out = append(out, c)
		}
	}
	return out
}
