package tls

import (
	"fmt"
	"strings"
)

// Reason puts a failed handshake's error into the form that Envoy logs as transport failure reason.
func Reason(err error) string {
	text := err.Error()
	if isNoCertificate(err) {
		return (&Failure{Kind: NoCertificate}).Error()
	}
	if strings.HasPrefix(text, "TLS_error") {
		return text
	}
	if alert, ok := strings.CutPrefix(text, "remote error: tls: "); ok {
		if name, known := alerts[alert]; known {
			text = boring(alertReasons+name.number, name.text)
		}
	}
	for part, said := range reasons {
		if strings.Contains(text, part) {
			text = said
			break
		}
	}
	return "TLS_error:|" + text + ":TLS_error_end"
}

// boring is an error of BoringSSL's library SSL.
func boring(reason int, name string) string {
	const library = 16 << 24
	return fmt.Sprintf("%d:SSL routines:OPENSSL_internal:%s", library|reason, name)
}

// reasons are what BoringSSL says where crypto/tls says the other; what is not here has no counterpart.
var reasons = map[string]string{
	"client offered only unsupported versions":        boring(240, "UNSUPPORTED_PROTOCOL"),
	"no cipher suite supported by both":               boring(184, "NO_SHARED_CIPHER"),
	"first record does not look like a TLS handshake": boring(247, "WRONG_VERSION_NUMBER"),
}

// alertReasons is what BoringSSL adds to an alert's number to have an error's.
const alertReasons = 1000

// An alert is its number (RFC 8446, section 6) and BoringSSL's name of it.
type alert struct {
	number int
	text   string
}

// alerts are those that a peer sends, by what crypto/tls calls them.
var alerts = map[string]alert{
	"unexpected message":              {10, "SSLV3_ALERT_UNEXPECTED_MESSAGE"},
	"bad record MAC":                  {20, "SSLV3_ALERT_BAD_RECORD_MAC"},
	"decryption failed":               {21, "TLSV1_ALERT_DECRYPTION_FAILED"},
	"record overflow":                 {22, "TLSV1_ALERT_RECORD_OVERFLOW"},
	"decompression failure":           {30, "SSLV3_ALERT_DECOMPRESSION_FAILURE"},
	"handshake failure":               {40, "SSLV3_ALERT_HANDSHAKE_FAILURE"},
	"bad certificate":                 {42, "SSLV3_ALERT_BAD_CERTIFICATE"},
	"unsupported certificate":         {43, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"},
	"revoked certificate":             {44, "SSLV3_ALERT_CERTIFICATE_REVOKED"},
	"expired certificate":             {45, "SSLV3_ALERT_CERTIFICATE_EXPIRED"},
	"unknown certificate":             {46, "SSLV3_ALERT_CERTIFICATE_UNKNOWN"},
	"illegal parameter":               {47, "SSLV3_ALERT_ILLEGAL_PARAMETER"},
	"unknown certificate authority":   {48, "TLSV1_ALERT_UNKNOWN_CA"},
	"access denied":                   {49, "TLSV1_ALERT_ACCESS_DENIED"},
	"error decoding message":          {50, "TLSV1_ALERT_DECODE_ERROR"},
	"error decrypting message":        {51, "TLSV1_ALERT_DECRYPT_ERROR"},
	"export restriction":              {60, "TLSV1_ALERT_EXPORT_RESTRICTION"},
	"protocol version not supported":  {70, "TLSV1_ALERT_PROTOCOL_VERSION"},
	"insufficient security level":     {71, "TLSV1_ALERT_INSUFFICIENT_SECURITY"},
	"internal error":                  {80, "TLSV1_ALERT_INTERNAL_ERROR"},
	"inappropriate fallback":          {86, "TLSV1_ALERT_INAPPROPRIATE_FALLBACK"},
	"user canceled":                   {90, "TLSV1_ALERT_USER_CANCELLED"},
	"no renegotiation":                {100, "TLSV1_ALERT_NO_RENEGOTIATION"},
	"unsupported extension":           {110, "TLSV1_ALERT_UNSUPPORTED_EXTENSION"},
	"certificate unobtainable":        {111, "TLSV1_ALERT_CERTIFICATE_UNOBTAINABLE"},
	"unrecognized name":               {112, "TLSV1_ALERT_UNRECOGNIZED_NAME"},
	"bad certificate status response": {113, "TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE"},
	"bad certificate hash value":      {114, "TLSV1_ALERT_BAD_CERTIFICATE_HASH_VALUE"},
	"unknown PSK identity":            {115, "TLSV1_ALERT_UNKNOWN_PSK_IDENTITY"},
	"certificate required":            {116, "TLSV1_ALERT_CERTIFICATE_REQUIRED"},
	"no application protocol":         {120, "TLSV1_ALERT_NO_APPLICATION_PROTOCOL"},
}
