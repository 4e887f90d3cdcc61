package nginx

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/google/uuid"
)

// A text is a word with variables in it.
type text []part

// A part is a literal, or the value of a variable.
type part struct {
	literal string
	value   func(*exchange) string
}

// An exchange is one request on its way through the configuration.
type exchange struct {
	r      *http.Request
	path   string // decoded and cleaned: what locations are compared with
	port   string // the listener's
	server *server
	loc    *location
	id     string
}

func (t text) expand(x *exchange) string {
	var b strings.Builder
	for _, p := range t {
		if p.value != nil {
			b.WriteString(p.value(x))
		} else {
			b.WriteString(p.literal)
		}
	}
	return b.String()
}

// parseText finds the variables, "$name" or "${name}", in s.
func parseText(s string) (text, error) {
	var t text
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			return append(t, part{literal: s}), nil
		}
		if i > 0 {
			t = append(t, part{literal: s[:i]})
		}
		s = s[i+1:]
		name, rest, err := variableName(s)
		if err != nil {
			return nil, err
		}
		s = rest
		value := variable(name)
		if value == nil {
			return nil, fmt.Errorf("variable $%s is not built in", name)
		}
		t = append(t, part{value: value})
	}
	return t, nil
}

func variableName(s string) (name, rest string, err error) {
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		if name, rest, ok = strings.Cut(inner, "}"); !ok {
			return "", "", fmt.Errorf("\"${%s\" is not ended by \"}\"", inner)
		}
		return name, rest, nil
	}
	i := 0
	for i < len(s) && (s[i] == '_' || s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9') {
		i++
	}
	return s[:i], s[i:], nil
}

var variables = map[string]func(*exchange) string{
	"host":                      func(x *exchange) string { return strings.ToLower(hostname(x.r.Host)) },
	"http_host":                 func(x *exchange) string { return x.r.Host },
	"remote_addr":               func(x *exchange) string { return hostname(x.r.RemoteAddr) },
	"remote_port":               func(x *exchange) string { return portOf(x.r.RemoteAddr) },
	"proxy_add_x_forwarded_for": forwardedFor,
	"scheme":                    func(*exchange) string { return "http" },
	"https":                     func(*exchange) string { return "" },
	"request_uri":               func(x *exchange) string { return requestURI(x.r) },
	"uri":                       func(x *exchange) string { return x.path },
	"document_uri":              func(x *exchange) string { return x.path },
	"args":                      func(x *exchange) string { return x.r.URL.RawQuery },
	"query_string":              func(x *exchange) string { return x.r.URL.RawQuery },
	"is_args": func(x *exchange) string {
		if x.r.URL.RawQuery != "" {
			return "?"
		}
		return ""
	},
	"request":         func(x *exchange) string { return x.r.Method + " " + requestURI(x.r) + " " + x.r.Proto },
	"request_method":  func(x *exchange) string { return x.r.Method },
	"request_id":      func(x *exchange) string { return x.requestID() },
	"server_protocol": func(x *exchange) string { return x.r.Proto },
	"server_port":     func(x *exchange) string { return x.port },
	"server_addr":     serverAddr,
	"server_name": func(x *exchange) string {
		if len(x.server.names) == 0 {
			return ""
		}
		return x.server.names[0]
	},
	"proxy_host": func(x *exchange) string {
		if x.loc == nil || x.loc.pass == nil {
			return ""
		}
		return x.loc.pass.name
	},
	"proxy_port": func(x *exchange) string {
		if x.loc == nil || x.loc.pass == nil {
			return ""
		}
		return x.loc.pass.port
	},
	"content_type":   func(x *exchange) string { return x.r.Header.Get("Content-Type") },
	"content_length": func(x *exchange) string { return x.r.Header.Get("Content-Length") },
	"hostname": func(*exchange) string {
		name, _ := os.Hostname() // empty where the system does not say
		return name
	},
}

// variable returns the function behind a variable's name, or nil.
func variable(name string) func(*exchange) string {
	if f, ok := variables[name]; ok {
		return f
	}
	if h, ok := strings.CutPrefix(name, "http_"); ok && h != "" {
		h = strings.ReplaceAll(h, "_", "-")
		return func(x *exchange) string { return strings.Join(x.r.Header.Values(h), ", ") }
	}
	if arg, ok := strings.CutPrefix(name, "arg_"); ok && arg != "" {
		return func(x *exchange) string { return rawArg(x.r.URL.RawQuery, arg) }
	}
	if cookie, ok := strings.CutPrefix(name, "cookie_"); ok && cookie != "" {
		return func(x *exchange) string {
			if c, err := x.r.Cookie(cookie); err == nil {
				return c.Value
			}
			return ""
		}
	}
	return nil
}

func forwardedFor(x *exchange) string {
	before := strings.Join(x.r.Header.Values("X-Forwarded-For"), ", ")
	if before == "" {
		return hostname(x.r.RemoteAddr)
	}
	return before + ", " + hostname(x.r.RemoteAddr)
}

func serverAddr(x *exchange) string {
	if a, ok := x.r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		return hostname(a.String())
	}
	return ""
}

// requestID is 32 hexadecimal digits, the same throughout a request.
func (x *exchange) requestID() string {
	if x.id == "" {
		x.id = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	return x.id
}

// rawArg is an argument of the query as it stands there, not decoded.
func rawArg(query, name string) string {
	for pair := range strings.SplitSeq(query, "&") {
		if k, v, _ := strings.Cut(pair, "="); strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}

// requestURI is the path and query as the client sent them.
func requestURI(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		return r.RequestURI
	}
	return r.URL.RequestURI() // absolute form (RFC 9112, section 3.2.2)
}

func hostname(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}

func portOf(hostport string) string {
	_, port, _ := net.SplitHostPort(hostport) // empty where there is none
	return port
}
