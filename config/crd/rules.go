package crd

import (
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// A rule reports whether what it says holds for a value, which is right in itself.
type rule func(v any) bool

// rules holds the rules of the definitions, each by its message.
var rules = map[string]rule{
	"Value is immutable": holds, // the API server compares with the object before

	"sectionName must be specified when targetRefs includes 2 or more references to the same target": allOrNone(sameTarget, "sectionName"),
	"sectionName must be unique when targetRefs includes 2 or more references to the same target":    distinct("group", "kind", "name", "sectionName"),
	"sectionName or port must be specified when parentRefs includes 2 or more references to the same parent": func(v any) bool {
		return allOrNone(sameParent, "sectionName")(v) && allOrNone(sameParent, "port")(v)
	},
	"sectionName or port must be unique when parentRefs includes 2 or more references to the same parent": distinct("group", "kind", "namespace", "name", "sectionName", "port"),

	"must not contain both CACertificateRefs and WellKnownCACertificates": func(v any) bool { return !has(v, "caCertificateRefs") || !has(v, "wellKnownCACertificates") },
	"must specify either CACertificateRefs or WellKnownCACertificates":    func(v any) bool { return has(v, "caCertificateRefs") || has(v, "wellKnownCACertificates") },

	"SubjectAltName element must contain Hostname, if Type is set to Hostname":         needs("type", "Hostname", "hostname"),
	"SubjectAltName element must not contain Hostname, if Type is not set to Hostname": only("type", "Hostname", "hostname"),
	"SubjectAltName element must contain URI, if Type is set to URI":                   needs("type", "URI", "uri"),
	"SubjectAltName element must not contain URI, if Type is not set to URI":           only("type", "URI", "uri"),

	"IPAddress values must be unique": distinctAddresses("IPAddress"),
	"Hostname values must be unique":  distinctAddresses("Hostname"),
	`Hostname value must be empty or contain only valid characters (matching ^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$)`: func(v any) bool {
		return text(v, "type") != "Hostname" || text(v, "value") == "" || hostname.MatchString(text(v, "value"))
	},
	"An address of type IPAddress must be an IPv4 or an IPv6 address": func(v any) bool {
		_, err := netip.ParseAddr(text(v, "value"))
		return text(v, "type") != "IPAddress" || text(v, "value") == "" || err == nil
	},
	"Annotation keys must be in the form of an optional DNS subdomain prefix followed by a required name segment of up to 63 characters.": keys(qualified.MatchString),
	"Label keys must be in the form of an optional DNS subdomain prefix followed by a required name segment of up to 63 characters.":      keys(qualified.MatchString),
	"If specified, the annotation key's prefix must be a DNS subdomain not longer than 253 characters in total.":                          keys(shortPrefix),
	"If specified, the label key's prefix must be a DNS subdomain not longer than 253 characters in total.":                               keys(shortPrefix),

	"tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']": each(func(l any) bool { return !in(text(l, "protocol"), "HTTP", "TCP", "UDP") || !there(l, "tls") }),
	"tls mode must be Terminate for protocol HTTPS": each(func(l any) bool {
		return text(l, "protocol") != "HTTPS" || !there(l, "tls") || in(text(at(l, "tls"), "mode"), "", "Terminate")
	}),
	"tls mode must be set for protocol TLS":                                       each(func(l any) bool { return text(l, "protocol") != "TLS" || text(at(l, "tls"), "mode") != "" }),
	"hostname must not be specified for protocols ['TCP', 'UDP']":                 each(func(l any) bool { return !in(text(l, "protocol"), "TCP", "UDP") || text(l, "hostname") == "" }),
	"Listener name must be unique within the Gateway":                             distinct("name"),
	"Combination of port, protocol and hostname must be unique for each listener": distinct("port", "protocol", "hostname"),
	"certificateRefs or options must be specified when mode is Terminate": func(v any) bool {
		return text(v, "mode") != "Terminate" || has(v, "certificateRefs") || has(v, "options")
	},
	"Port for TLS configuration must be unique within the Gateway": distinct("port"),

	"Rule name must be unique within the route": distinctNamed,
	"Must have port for Service reference": func(v any) bool {
		return text(v, "group") != "" || text(v, "kind") != "Service" || there(v, "port")
	},
	"While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be less than 128": func(v any) bool {
		n := 0
		for _, r := range list(v) {
			n += len(list(at(r, "matches")))
		}
		return n <= 128
	},

	"RequestHeaderModifier filter cannot be repeated":  once("RequestHeaderModifier"),
	"ResponseHeaderModifier filter cannot be repeated": once("ResponseHeaderModifier"),
	"CORS filter cannot be repeated":                   once("CORS"),
	"RequestRedirect filter cannot be repeated":        once("RequestRedirect"),
	"URLRewrite filter cannot be repeated":             once("URLRewrite"),
	"May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both": func(v any) bool {
		return count(v, "RequestRedirect") == 0 || count(v, "URLRewrite") == 0
	},

	"filter.requestHeaderModifier must be nil if the filter.type is not RequestHeaderModifier":   only("type", "RequestHeaderModifier", "requestHeaderModifier"),
	"filter.requestHeaderModifier must be specified for RequestHeaderModifier filter.type":       needs("type", "RequestHeaderModifier", "requestHeaderModifier"),
	"filter.responseHeaderModifier must be nil if the filter.type is not ResponseHeaderModifier": only("type", "ResponseHeaderModifier", "responseHeaderModifier"),
	"filter.responseHeaderModifier must be specified for ResponseHeaderModifier filter.type":     needs("type", "ResponseHeaderModifier", "responseHeaderModifier"),
	"filter.requestMirror must be nil if the filter.type is not RequestMirror":                   only("type", "RequestMirror", "requestMirror"),
	"filter.requestMirror must be specified for RequestMirror filter.type":                       needs("type", "RequestMirror", "requestMirror"),
	"filter.extensionRef must be nil if the filter.type is not ExtensionRef":                     only("type", "ExtensionRef", "extensionRef"),
	"filter.extensionRef must be specified for ExtensionRef filter.type":                         needs("type", "ExtensionRef", "extensionRef"),
	"filter.cors must be nil if the filter.type is not CORS":                                     only("type", "CORS", "cors"),
	"filter.cors must be specified for CORS filter.type":                                         needs("type", "CORS", "cors"),
	"filter.requestRedirect must be nil if the filter.type is not RequestRedirect":               only("type", "RequestRedirect", "requestRedirect"),
	"filter.requestRedirect must be specified for RequestRedirect filter.type":                   needs("type", "RequestRedirect", "requestRedirect"),
	"filter.urlRewrite must be nil if the filter.type is not URLRewrite":                         only("type", "URLRewrite", "urlRewrite"),
	"filter.urlRewrite must be specified for URLRewrite filter.type":                             needs("type", "URLRewrite", "urlRewrite"),
	"filter.externalAuth must be nil if the filter.type is not ExternalAuth":                     only("type", "ExternalAuth", "externalAuth"),
	"filter.externalAuth must be specified for ExternalAuth filter.type":                         needs("type", "ExternalAuth", "externalAuth"),
	"grpc must be specified when protocol is set to 'GRPC'":                                      needs("protocol", "GRPC", "grpc"),
	"protocol must be 'GRPC' when grpc is set":                                                   only("protocol", "GRPC", "grpc"),
	"http must be specified when protocol is set to 'HTTP'":                                      needs("protocol", "HTTP", "http"),
	"protocol must be 'HTTP' when http is set":                                                   only("protocol", "HTTP", "http"),
	"replaceFullPath must be specified when type is set to 'ReplaceFullPath'":                    needs("type", "ReplaceFullPath", "replaceFullPath"),
	"type must be 'ReplaceFullPath' when replaceFullPath is set":                                 only("type", "ReplaceFullPath", "replaceFullPath"),
	"replacePrefixMatch must be specified when type is set to 'ReplacePrefixMatch'":              needs("type", "ReplacePrefixMatch", "replacePrefixMatch"),
	"type must be 'ReplacePrefixMatch' when replacePrefixMatch is set":                           only("type", "ReplacePrefixMatch", "replacePrefixMatch"),

	"Only one of percent or fraction may be specified in HTTPRequestMirrorFilter": func(v any) bool { return !there(v, "percent") || !there(v, "fraction") },
	"numerator must be less than or equal to denominator":                         func(v any) bool { return number(v, "numerator") <= number(v, "denominator") },
	"AbsoluteTimeout must be specified when cookie lifetimeType is Permanent": func(v any) bool {
		return text(at(v, "cookieConfig"), "lifetimeType") != "Permanent" || there(v, "absoluteTimeout")
	},
	"cookieConfig can only be set with type Cookie": only("type", "Cookie", "cookieConfig"),

	"One or both of 'service' or 'method' must be specified": func(v any) bool { return !there(v, "type") || there(v, "service") || there(v, "method") },
	`service must only contain valid characters (matching ^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$)`: func(v any) bool {
		return !in(text(v, "type"), "", "Exact") || !there(v, "service") || grpcService.MatchString(text(v, "service"))
	},
	`method must only contain valid characters (matching ^[A-Za-z_][A-Za-z_0-9]*$)`: func(v any) bool {
		return !in(text(v, "type"), "", "Exact") || !there(v, "method") || grpcMethod.MatchString(text(v, "method"))
	},

	"RequestRedirect filter must not be used together with backendRefs": func(v any) bool {
		for _, f := range list(at(v, "filters")) {
			if there(f, "requestRedirect") && has(v, "backendRefs") {
				return false
			}
		}
		return true
	},
	"When using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified":                     prefixMatch(false, "requestRedirect"),
	"When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified":                          prefixMatch(false, "urlRewrite"),
	"Within backendRefs, when using RequestRedirect filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified": prefixMatch(true, "requestRedirect"),
	"Within backendRefs, When using URLRewrite filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified":      prefixMatch(true, "urlRewrite"),

	"AllowHeaders cannot contain '*' alongside other methods": starAlone,
	"AllowMethods cannot contain '*' alongside other methods": starAlone,
	"AllowOrigins cannot contain '*' alongside other origins": starAlone,

	"value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']":                                             path(func(s string) bool { return strings.HasPrefix(s, "/") }),
	"must not contain '//' when type one of ['Exact', 'PathPrefix']":                                                                         path(without("//")),
	"must not contain '/./' when type one of ['Exact', 'PathPrefix']":                                                                        path(without("/./")),
	"must not contain '/../' when type one of ['Exact', 'PathPrefix']":                                                                       path(without("/../")),
	"must not contain '%2f' when type one of ['Exact', 'PathPrefix']":                                                                        path(without("%2f")),
	"must not contain '%2F' when type one of ['Exact', 'PathPrefix']":                                                                        path(without("%2F")),
	"must not contain '#' when type one of ['Exact', 'PathPrefix']":                                                                          path(without("#")),
	"must not end with '/..' when type one of ['Exact', 'PathPrefix']":                                                                       path(func(s string) bool { return !strings.HasSuffix(s, "/..") }),
	"must not end with '/.' when type one of ['Exact', 'PathPrefix']":                                                                        path(func(s string) bool { return !strings.HasSuffix(s, "/.") }),
	"type must be one of ['Exact', 'PathPrefix', 'RegularExpression']":                                                                       func(v any) bool { return in(text(v, "type"), "Exact", "PathPrefix", "RegularExpression") },
	"must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types ['Exact', 'PathPrefix']": path(pathCharacters.MatchString),

	"backendRequest timeout cannot be longer than request timeout": func(v any) bool {
		whole, part := duration(text(v, "request")), duration(text(v, "backendRequest"))
		return whole == 0 || part <= whole
	},

	"Hostnames cannot contain an IP": each(func(h any) bool {
		_, err := netip.ParseAddr(str(h))
		return err != nil
	}),
	"Hostnames must be valid based on RFC-1123": each(func(h any) bool { return strings.Contains(str(h), "*") || domain.MatchString(str(h)) }),
	"Wildcards on hostnames must be the first label, and the rest of hostname must be valid based on RFC-1123": each(func(h any) bool {
		rest, ok := strings.CutPrefix(str(h), "*.")
		return !strings.Contains(str(h), "*") || ok && domain.MatchString(rest)
	}),
}

const labels = `[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*`

var (
	domain         = regexp.MustCompile(`^` + labels + `$`)
	hostname       = regexp.MustCompile(`^(\*\.)?` + labels + `$`)
	qualified      = regexp.MustCompile(`^(` + labels + `/)?([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$`)
	grpcService    = regexp.MustCompile(`^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`)
	grpcMethod     = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9]*$`)
	pathCharacters = regexp.MustCompile(`^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$`)
)

func duration(s string) time.Duration {
	d, _ := time.ParseDuration(s)
	return d
}
