package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	httptypev3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"

	"github.com/mallamesh/malla/model"
)

// session says how requests of one client find the endpoint of the first; nil if they need not. An
// endpoint that is gone is replaced by another, with a new token.
func session(s *model.Session) *sessionv3.StatefulSessionPerRoute {
	if s == nil {
		return nil
	}
	state := &corev3.TypedExtensionConfig{}
	if s.Header != "" {
		state.Name = "envoy.http.stateful_session.header"
		state.TypedConfig = pack(&headerv3.HeaderBasedSessionState{Name: s.Header})
	} else {
		state.Name = "envoy.http.stateful_session.cookie"
		state.TypedConfig = pack(&cookiev3.CookieBasedSessionState{Cookie: &httptypev3.Cookie{Name: s.Cookie, Path: s.Path, Ttl: spanIf(s.TTL)}})
	}
	return &sessionv3.StatefulSessionPerRoute{Override: &sessionv3.StatefulSessionPerRoute_StatefulSession{
		StatefulSession: &sessionv3.StatefulSession{SessionState: state},
	}}
}

// keepsSessions reports whether a rule that the proxy may keep to asks for sessions. Only then its
// listeners have the filter.
func keepsSessions(v *model.View) bool {
	type key struct{}
	return v.Memo(key{}, func() any {
		for _, r := range v.Rules() {
			if v.Proxy.Type == model.Sidecar && !r.Applies("mesh") {
				continue
			}
			for _, h := range r.HTTP {
				if h.Session != nil {
					return true
				}
			}
		}
		return false
	}).(bool)
}
