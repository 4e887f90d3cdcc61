package lua

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha1" // what verifySignature knows
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"strings"

	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/metadata"

	lua "github.com/yuin/gopher-lua"
)

func text(of func(rec *access.Record) string) method {
	return func(l *lua.LState, r *run, _ any) int { return pushText(l, of(&r.s.Rec)) }
}

func address(of func(rec *access.Record) netip.AddrPort) method {
	return text(func(rec *access.Record) string {
		a := of(rec)
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
	})
}

// typed pushes the message that a namespace holds, as a table of what is set in it.
func typed(l *lua.LState, d *metadata.Dynamic) int {
	m := d.Message(l.CheckString(2))
	if m == nil {
		return push(l, lua.LNil)
	}
	return push(l, value(l, m.Fields))
}

var infoMethods = map[string]method{
	"protocol": text(func(rec *access.Record) string { return rec.Protocol.String() }),
	"routeName": func(l *lua.LState, r *run, _ any) int {
		if r.request && !r.continued {
			r.route()
		}
		return pushText(l, r.s.Rec.RouteName)
	},
	"virtualClusterName":            text(func(rec *access.Record) string { return rec.VirtualCluster }),
	"downstreamDirectLocalAddress":  address(func(rec *access.Record) netip.AddrPort { return rec.DirectLocal }),
	"downstreamLocalAddress":        address(func(rec *access.Record) netip.AddrPort { return rec.DownstreamLocal }),
	"downstreamDirectRemoteAddress": address(func(rec *access.Record) netip.AddrPort { return rec.DirectRemote }),
	"downstreamRemoteAddress":       address(func(rec *access.Record) netip.AddrPort { return rec.DownstreamRemote }),
	"requestedServerName":           text(func(rec *access.Record) string { return rec.SNI }),
	"downstreamSslConnection":       sslConnection,
	"dynamicMetadata": func(l *lua.LState, r *run, _ any) int {
		return push(l, r.object(dynamicKind, &r.s.Rec.Dynamic))
	},
	"dynamicTypedMetadata": func(l *lua.LState, r *run, _ any) int { return typed(l, &r.s.Rec.Dynamic) },
	"drainConnectionUponCompletion": func(_ *lua.LState, r *run, _ any) int {
		r.s.EndConnection()
		return 0
	},
	"filterState": func(l *lua.LState, r *run, _ any) int { return push(l, r.object(stateKind, nil)) },
}

var connectionMethods = map[string]method{"ssl": sslConnection}

var connectionInfoMethods = map[string]method{
	"dynamicMetadata": func(l *lua.LState, r *run, _ any) int {
		return push(l, r.object(connectionDynamicKind, &r.s.Conn.Dynamic))
	},
	"dynamicTypedMetadata": func(l *lua.LState, r *run, _ any) int { return typed(l, &r.s.Conn.Dynamic) },
}

func sslConnection(l *lua.LState, r *run, _ any) int {
	if t := r.s.Rec.Downstream; t != nil {
		return push(l, r.object(tlsKind, t))
	}
	return push(l, lua.LNil)
}

// fact is a method that returns what formats write of one end of a connection.
func fact(operator string) method {
	f, err := access.CompileHeader("%" + operator + "%")
	if err != nil {
		panic("lua: operator " + operator + ": " + err.Error())
	}
	return func(l *lua.LState, r *run, _ any) int { return pushText(l, string(f.Append(nil, &r.s.Rec))) }
}

// ofCertificate is a method that returns texts of a certificate, none if there is none.
func ofCertificate(local bool, of func(*x509.Certificate) []string) method {
	return func(l *lua.LState, _ *run, v any) int {
		c := v.(*access.TLS).Peer
		if local {
			c = v.(*access.TLS).Local
		}
		t := l.NewTable()
		if c != nil {
			for _, s := range of(c) {
				t.Append(given(l, s))
			}
		}
		return push(l, t)
	}
}

func uris(c *x509.Certificate) (out []string) {
	for _, u := range c.URIs {
		out = append(out, u.String())
	}
	return out
}

func names(c *x509.Certificate) []string { return c.DNSNames }

func oids(c *x509.Certificate) (out []string) {
	for _, e := range c.Extensions {
		out = append(out, e.Id.String())
	}
	return out
}

// moment is a method that returns a time of the peer's certificate in seconds.
func moment(of func(*x509.Certificate) int64) method {
	return func(l *lua.LState, _ *run, v any) int {
		if c := v.(*access.TLS).Peer; c != nil {
			return push(l, lua.LNumber(of(c)))
		}
		return push(l, lua.LNumber(0))
	}
}

var tlsMethods = map[string]method{
	"peerCertificatePresented": func(l *lua.LState, _ *run, v any) int {
		return push(l, lua.LBool(v.(*access.TLS).Peer != nil))
	},
	"peerCertificateValidated": func(l *lua.LState, _ *run, v any) int {
		return push(l, lua.LBool(v.(*access.TLS).Peer != nil && v.(*access.TLS).Verified))
	},
	"uriSanLocalCertificate":              ofCertificate(true, uris),
	"uriSanPeerCertificate":               ofCertificate(false, uris),
	"dnsSansLocalCertificate":             ofCertificate(true, names),
	"dnsSansPeerCertificate":              ofCertificate(false, names),
	"oidsLocalCertificate":                ofCertificate(true, oids),
	"oidsPeerCertificate":                 ofCertificate(false, oids),
	"sha256PeerCertificateDigest":         fact("DOWNSTREAM_PEER_FINGERPRINT_256"),
	"sha256PeerCertificateIssuerDigest":   fact("DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256"),
	"serialNumberPeerCertificate":         fact("DOWNSTREAM_PEER_SERIAL"),
	"serialNumberPeerCertificateIssuer":   fact("DOWNSTREAM_PEER_ISSUER_SERIAL"),
	"issuerPeerCertificate":               fact("DOWNSTREAM_PEER_ISSUER"),
	"subjectPeerCertificate":              fact("DOWNSTREAM_PEER_SUBJECT"),
	"subjectLocalCertificate":             fact("DOWNSTREAM_LOCAL_SUBJECT"),
	"urlEncodedPemEncodedPeerCertificate": fact("DOWNSTREAM_PEER_CERT"),
	"urlEncodedPemEncodedPeerCertificateChain": func(l *lua.LState, _ *run, v any) int {
		return pushText(l, access.EncodePEM(v.(*access.TLS).Chain...))
	},
	"validFromPeerCertificate":  moment(func(c *x509.Certificate) int64 { return c.NotBefore.Unix() }),
	"expirationPeerCertificate": moment(func(c *x509.Certificate) int64 { return c.NotAfter.Unix() }),
	"sessionId":                 fact("DOWNSTREAM_TLS_SESSION_ID"),
	"ciphersuiteId": func(l *lua.LState, _ *run, v any) int {
		const hex = "0123456789abcdef"
		id := v.(*access.TLS).Cipher
		return pushText(l, string([]byte{'0', 'x', hex[id>>12], hex[id>>8&15], hex[id>>4&15], hex[id&15]}))
	},
	"ciphersuiteString": fact("DOWNSTREAM_TLS_CIPHER"),
	"tlsVersion":        fact("DOWNSTREAM_TLS_VERSION"),
	"parsedSubjectPeerCertificate": func(l *lua.LState, r *run, v any) int {
		c := v.(*access.TLS).Peer
		if c == nil {
			return push(l, lua.LNil)
		}
		return push(l, r.object(nameKind, c))
	},
}

var nameMethods = map[string]method{
	"commonName": func(l *lua.LState, _ *run, v any) int {
		return pushText(l, v.(*x509.Certificate).Subject.CommonName)
	},
	"organizationName": func(l *lua.LState, _ *run, v any) int {
		t := l.NewTable()
		for _, o := range v.(*x509.Certificate).Subject.Organization {
			t.Append(given(l, o))
		}
		return push(l, t)
	},
}

// A publicKey is what importPublicKey makes.
type publicKey struct {
	der string
	key any // nil: the bytes are none
}

var keyMethods = map[string]method{
	"get": func(l *lua.LState, _ *run, v any) int {
		if k := v.(*publicKey); k.key != nil {
			return pushText(l, k.der)
		}
		return push(l, lua.LNil)
	},
}

// prefix is the first n bytes of an argument.
func prefix(l *lua.LState, at, length int) []byte {
	b, n := []byte(l.CheckString(at)), l.CheckInt(length)
	if n < 0 || n > len(b) {
		l.RaiseError("length %d of a text of %d bytes", n, len(b))
	}
	return b[:n]
}

// importKey reads a public key.
func importKey(l *lua.LState, r *run, _ any) int {
	der := prefix(l, 2, 3)
	key, err := parseKey(der)
	if err != nil {
		return push(l, r.fresh(keyKind, &publicKey{}))
	}
	if r.keys == nil {
		r.keys = map[string]any{}
	}
	r.keys[string(der)] = key
	return push(l, r.fresh(keyKind, &publicKey{string(der), key}))
}

func parseKey(b []byte) (any, error) {
	if block, _ := pem.Decode(b); block != nil {
		b = block.Bytes
	}
	return x509.ParsePKIXPublicKey(b)
}

var hashes = map[string]crypto.Hash{
	"sha1": crypto.SHA1, "sha224": crypto.SHA224, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512,
}

// verifyCost is what a signature counts for, in instructions.
const verifyCost = 5000

// verify checks a signature.
func verify(l *lua.LState, r *run, _ any) int {
	name, der := l.CheckString(2), l.CheckString(3)
	key, ok := r.keys[der]
	if !ok {
		l.RaiseError("invalid public key")
	}
	signature, data := prefix(l, 4, 5), prefix(l, 6, 7)
	raise(l, r.st.meter.steps(verifyCost+len(data)>>4))
	if problem := checkSignature(name, key, signature, data); problem != "" {
		l.Push(lua.LFalse)
		return 1 + pushText(l, problem)
	}
	l.Push(lua.LTrue)
	l.Push(lua.LNil)
	return 2
}

// checkSignature returns what is wrong with a signature, nothing if it is right.
func checkSignature(name string, key any, signature, data []byte) string {
	hash, ok := hashes[strings.ToLower(name)]
	if !ok {
		return name + " is not supported."
	}
	h := hash.New()
	h.Write(data)
	sum := h.Sum(nil)
	valid := false
	switch k := key.(type) {
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(k, hash, sum, signature) == nil
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(k, sum, signature)
	case ed25519.PublicKey:
		valid = ed25519.Verify(k, data, signature)
	}
	if !valid {
		return "Failed to verify digest. Error code: 0"
	}
	return ""
}
