// Package basicauth is the HTTP filter that asks for a name and a password (RFC 7617).
//
// Passwords are known by their SHA-1 only, as htpasswd writes it. A route may have users of its own.
package basicauth

import (
	"bytes"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/pool"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// Users are hashes of passwords by name.
type Users map[string][sha1.Size]byte

// Parse reads a file of htpasswd, of which only {SHA} is allowed.
func Parse(text string) (Users, error) {
	users := Users{}
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" || hash == "" {
			return nil, fmt.Errorf("line %d: want NAME:{SHA}HASH", n+1)
		}
		if _, twice := users[name]; twice {
			return nil, fmt.Errorf("line %d: user %s stands there twice", n+1, name)
		}
		encoded, ok := strings.CutPrefix(hash, "{SHA}")
		sum, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(sum) != sha1.Size {
			return nil, fmt.Errorf("line %d: user %s has no hash of the kind {SHA}, want one", n+1, name)
		}
		users[name] = [sha1.Size]byte(sum)
	}
	return users, nil
}

// A Config describes the filter. It must not change.
type Config struct {
	Users        Users
	Field        []byte // that carries the credentials, lower case; empty: authorization
	Forward      []byte // field that tells the upstream the name; empty: none
	AllowMissing bool   // a request without credentials of this scheme goes on
	Realm        string // empty: the request's URL
	Tell         bool   // the name becomes metadata of the request
}

// A Word is what a route says to the filter.
type Word struct {
	Users Users
	Realm string
}

type factory struct {
	name   string
	config *Config
	stats  *stats.BasicAuth
}

// New returns the factory of filters with a name in the chain.
func New(name string, c *Config, s *stats.BasicAuth) stream.Factory { return &factory{name, c, s} }

func (f *factory) Name() string { return f.name }

func (f *factory) New(*pool.Worker) any { return &filter{factory: f} }

type filter struct {
	*factory
	decoded []byte
}

var authenticate = []byte("www-authenticate")

// OnRequest lets users pass.
func (f *filter) OnRequest(s *stream.Stream, m *header.Map) stream.Verdict {
	c := f.config
	users, realm := c.Users, c.Realm
	if w, ok := s.FilterConfig(f.name).(*Word); ok {
		users = w.Users
		if w.Realm != "" {
			realm = w.Realm
		}
	}
	v := m.Get(header.Authorization)
	if len(c.Field) > 0 {
		v = m.Lookup(c.Field)
	}
	const failed = "User authentication failed. "
	if v == nil {
		if c.AllowMissing {
			return stream.Continue
		}
		return f.deny(s, realm, failed+"Missing username and password.", "no_credential_for_basic_auth")
	}
	encoded, ok := bytes.CutPrefix(v, []byte("Basic "))
	if !ok && c.AllowMissing {
		return stream.Continue // credentials of another scheme are for others
	}
	if !ok {
		return f.deny(s, realm, failed+"Expected 'Basic' authentication scheme.", "invalid_scheme_for_basic_auth")
	}
	encoded = bytes.TrimRight(encoded, "=")
	var err error
	f.decoded, err = base64.RawStdEncoding.AppendDecode(f.decoded[:0], encoded)
	user, password, ok := bytes.Cut(f.decoded, []byte{':'})
	if err != nil || !ok {
		return f.deny(s, realm, failed+"Invalid basic credential format.", "invalid_format_for_basic_auth")
	}
	want, known := users[string(user)]
	sum := sha1.Sum(password)
	if !known || subtle.ConstantTimeCompare(sum[:], want[:]) != 1 {
		return f.deny(s, realm, failed+"Invalid username/password combination.", "invalid_credential_for_basic_auth")
	}
	if len(c.Forward) > 0 {
		m.SetName(c.Forward, m.Copy(user))
	}
	if c.Tell {
		s.Rec.Dynamic.Set(f.name, "username", string(user))
	}
	f.stats.Allowed.Inc()
	return stream.Continue
}

// maxPath is how much of a path stands in a realm.
const maxPath = 256

func (f *filter) deny(s *stream.Stream, realm, body, details string) stream.Verdict {
	f.stats.Denied.Inc()
	if realm == "" {
		m := &s.Request
		path := m.Get(header.XEnvoyOriginalPath)
		if path == nil {
			path = m.Get(header.Path)
		}
		realm = string(m.Get(header.XForwardedProto)) + "://" + string(m.Get(header.Authority)) + string(path[:min(len(path), maxPath)])
	}
	return s.ReplyWith(401, body, details, func(m *header.Map) { m.SetName(authenticate, []byte(`Basic realm="`+realm+`"`)) })
}

// OnResponse has nothing to do.
func (f *filter) OnResponse(*stream.Stream, *header.Map) stream.Verdict { return stream.Continue }

// OnEnd forgets the password.
func (f *filter) OnEnd(*stream.Stream) { clear(f.decoded[:cap(f.decoded)]) }
