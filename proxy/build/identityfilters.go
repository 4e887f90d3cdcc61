package build

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	apikeyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/api_key_auth/v3"
	basicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/basic_auth/v3"
	csrfv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/csrf/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	cookiesessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	headersessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/filter/apikey"
	"github.com/mallamesh/malla/proxy/filter/basicauth"
	"github.com/mallamesh/malla/proxy/filter/csrf"
	"github.com/mallamesh/malla/proxy/filter/session"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/stream"
)

// identityFields are of filters that look at who asks: by a password, a key, a site or a session.
var identityFields = []*Message{
	message((*csrfv3.CsrfPolicy)(nil), reads("filter_enabled", "shadow_enabled", "additional_origins")),
	message((*basicv3.BasicAuth)(nil), reads("users", "forward_username_header", "authentication_header", "allow_missing", "realm", "emit_dynamic_metadata")),
	message((*basicv3.BasicAuthPerRoute)(nil), reads("users", "realm")),
	message((*apikeyv3.ApiKeyAuth)(nil), reads("credentials", "key_sources", "forwarding")),
	message((*apikeyv3.ApiKeyAuthPerRoute)(nil), reads("credentials", "key_sources", "allowed_clients", "forwarding")),
	message((*apikeyv3.Credential)(nil), reads("key", "client")),
	message((*apikeyv3.KeySource)(nil), reads("header", "query", "cookie")),
	message((*apikeyv3.Forwarding)(nil), reads("header", "hide_credentials")),
	message((*sessionv3.StatefulSession)(nil), reads("session_state", "strict", "stat_prefix", "status_on_strict_destination_not_found")),
	message((*sessionv3.StatefulSessionPerRoute)(nil), reads("disabled", "stateful_session")),
	message((*cookiesessionv3.CookieBasedSessionState)(nil), reads("cookie")),
	message((*headersessionv3.HeaderBasedSessionState)(nil), reads("name")),
	message((*httpv3.Cookie)(nil), reads("name", "ttl", "path", "attributes")),
	message((*httpv3.CookieAttribute)(nil), reads("name", "value")),
}

func (r *listenerReader) csrf(name string, m *csrfv3.CsrfPolicy, c *stream.Config, at *field.Path) stream.Factory {
	set, scope := r.env.Stats.CSRF(c.StatPrefix)
	r.scopes = append(r.scopes, scope)
	return csrf.New(name, r.csrfPolicy(m, at), set)
}

func (r *reader) csrfPolicy(m *csrfv3.CsrfPolicy, at *field.Path) *csrf.Policy {
	p := &csrf.Policy{}
	if m.GetFilterEnabled() == nil {
		r.errs.Addf(at.Child("filter_enabled"), "is not set")
	}
	if f := r.runtimeFraction(m.GetFilterEnabled(), at.Child("filter_enabled")); f != nil {
		p.Enabled = *f
	}
	if f := r.runtimeFraction(m.GetShadowEnabled(), at.Child("shadow_enabled")); f != nil {
		p.Shadow = *f
	}
	p.Origins = r.stringMatchers(m.GetAdditionalOrigins(), at.Child("additional_origins"))
	return p
}

func (r *listenerReader) basicAuth(name string, m *basicv3.BasicAuth, c *stream.Config, at *field.Path) stream.Factory {
	set, scope := r.env.Stats.BasicAuth(c.StatPrefix)
	r.scopes = append(r.scopes, scope)
	return basicauth.New(name, &basicauth.Config{
		Users: r.users(m.GetUsers(), at.Child("users")), Field: []byte(strings.ToLower(m.GetAuthenticationHeader())),
		Forward: []byte(strings.ToLower(m.GetForwardUsernameHeader())), AllowMissing: m.GetAllowMissing(), Realm: m.GetRealm(), Tell: m.GetEmitDynamicMetadata(),
	}, set)
}

func (r *reader) users(d *corev3.DataSource, at *field.Path) basicauth.Users {
	if d == nil {
		r.errs.Addf(at, "is not set")
		return nil
	}
	users, err := basicauth.Parse(string(r.data(d, at)))
	if err != nil {
		r.errs.Addf(at, "%v", err)
	}
	return users
}

func (r *listenerReader) apiKeyAuth(name string, m *apikeyv3.ApiKeyAuth, c *stream.Config, at *field.Path) stream.Factory {
	set, scope := r.env.Stats.APIKeyAuth(c.StatPrefix)
	r.scopes = append(r.scopes, scope)
	return apikey.New(name, r.apiKeys(m, at), set)
}

// knowsKeys is what the filter and routes have in common.
type knowsKeys interface {
	GetCredentials() []*apikeyv3.Credential
	GetKeySources() []*apikeyv3.KeySource
	GetForwarding() *apikeyv3.Forwarding
}

func (r *reader) apiKeys(m knowsKeys, at *field.Path) *apikey.Config {
	c := &apikey.Config{Keys: map[string]string{}}
	for i, k := range m.GetCredentials() {
		at := at.Child("credentials").Index(i)
		if k.GetKey() == "" || k.GetClient() == "" {
			r.errs.Addf(at, "wants a key and a client")
		}
		if _, twice := c.Keys[k.GetKey()]; twice {
			r.errs.Addf(at.Child("key"), "stands there twice")
		}
		c.Keys[k.GetKey()] = k.GetClient()
	}
	for i, s := range m.GetKeySources() {
		out := apikey.Source{Header: []byte(strings.ToLower(s.GetHeader())), Query: s.GetQuery(), Cookie: s.GetCookie()}
		if len(out.Header)+len(out.Query)+len(out.Cookie) == 0 {
			r.errs.Addf(at.Child("key_sources").Index(i), "is empty, want header, query or cookie")
		}
		c.Sources = append(c.Sources, out)
	}
	if f := m.GetForwarding(); f != nil {
		c.Forward = &apikey.Forward{Header: []byte(strings.ToLower(f.GetHeader())), Hide: f.GetHideCredentials()}
	}
	return c
}

func (r *reader) apiKeyWord(m *apikeyv3.ApiKeyAuthPerRoute, at *field.Path) *apikey.Config {
	c := r.apiKeys(m, at)
	for _, name := range m.GetAllowedClients() {
		if c.Clients == nil {
			c.Clients = map[string]bool{}
		}
		c.Clients[name] = true
	}
	return c
}

func (r *listenerReader) statefulSession(name string, m *sessionv3.StatefulSession, c *stream.Config, at *field.Path) stream.Factory {
	var set *stats.StatefulSession
	if m.GetStatPrefix() != "" {
		var scope *stats.Scope
		set, scope = r.env.Stats.StatefulSession(c.StatPrefix, m.GetStatPrefix())
		r.scopes = append(r.scopes, scope)
	}
	return session.New(name, r.session(m, at), set)
}

func (r *reader) sessionWord(m *sessionv3.StatefulSessionPerRoute, at *field.Path) *session.Config {
	if m.GetDisabled() {
		return &session.Config{Off: true}
	}
	if m.GetStatefulSession() == nil {
		r.errs.Addf(at, "wants one of disabled and stateful_session")
	}
	return r.session(m.GetStatefulSession(), at.Child("stateful_session"))
}

func (r *reader) session(m *sessionv3.StatefulSession, at *field.Path) *session.Config {
	c := &session.Config{Strict: m.GetStrict(), Status: int(m.GetStatusOnStrictDestinationNotFound())}
	if m.GetSessionState() == nil {
		return c
	}
	at = at.Child("session_state")
	switch s := r.unpack(m.GetSessionState().GetTypedConfig(), at).(type) {
	case nil:
	case *cookiesessionv3.CookieBasedSessionState:
		k := s.GetCookie()
		at := at.Child("typed_config").Child("cookie")
		if c.Cookie = k.GetName(); c.Cookie == "" {
			r.errs.Addf(at.Child("name"), "is empty")
		}
		c.TTL, c.Path = r.duration(k.GetTtl(), at.Child("ttl")), k.GetPath()
		var attributes [][2]string
		for _, a := range k.GetAttributes() {
			attributes = append(attributes, [2]string{a.GetName(), a.GetValue()})
		}
		c.After = route.CookieAttributes(&c.TTL, c.Path, attributes)
	case *headersessionv3.HeaderBasedSessionState:
		if c.Header = []byte(strings.ToLower(s.GetName())); len(c.Header) == 0 {
			r.errs.Addf(at.Child("typed_config").Child("name"), "is empty")
		}
	default:
		r.errs.Addf(at, "found %s, want envoy.http.stateful_session.cookie or .header", anyName(s))
	}
	return c
}
